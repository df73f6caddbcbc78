"""The weights of a checkpoint of another program, read without running anything in it.

Such files hold more than weights: the options of a command line, a whole model, classes of packages that are not there.
PyTorch's safe loader refuses them. Here the parts of tensors are rebuilt as PyTorch does it, and an inert object stands
for everything else.
"""

from __future__ import annotations

import logging
import pickle
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmmutual.upstream import TENSOR_BUILDERS, PythonUnpickler, is_torchscript

from .atomic_write import write_whole

STATE_KEYS = ('state_dict', 'model', 'model_state_dict', 'teacher', 'ema', 'model_ema', 'state', 'module', 'weights')
REBUILD = {
    ('collections', 'OrderedDict'),
    ('torch', 'Size'),
    *TENSOR_BUILDERS,
    ('torch.storage', 'UntypedStorage'),
}  # called with tensors and numbers only
DEPTH = 4  # levels of nested mappings that are searched for the weights
MAX_NAMED = 3


class Inert:
    """Stands for an object of a class that is not read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take whatever the file gives."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Give another one for what the file would call."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        """Leave the content out."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Leave the content of a dict out."""

    def append(self, value: Any) -> None:
        """Leave the content of a list out."""

    def extend(self, values: Any) -> None:
        """Leave the content of a list out."""

    def add(self, value: Any) -> None:
        """Leave the content of a set out."""


class _InertUnpickler(PythonUnpickler):
    """Builds tensors and the containers that hold them; everything else becomes an inert object.

    It calls what ``find_class`` returns and nothing else, and it sets no attributes: a file could change functions and
    classes of this process by them.
    """

    dispatch: ClassVar[dict[int, Callable]] = dict(PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in REBUILD:
            return super().find_class(module, name)
        if module == 'torch' and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        return type(name.split('.')[-1], (Inert,), {})

    def _leave_state_out(self) -> None:
        self.stack.pop()  # type: ignore[attr-defined]  # typeshed does not know it

    dispatch[pickle.BUILD[0]] = _leave_state_out


def extract_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint whatever else is in it; nothing in the file runs.

    Args:
        path: A file of ``torch.save``.

    Returns:
        Tensors under their names, without the ``module.`` of a distributed model. They are those under the first of
        ``state_dict``, ``model``, ``model_state_dict`` and the like that holds tensors, or the file's own. A warning
        names entries next to them that are not tensors of a kind that is read (quantised and sparse ones, for example).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has no names with tensors: a whole model was pickled, for example.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint file {path} on this machine')
    reader = ModuleType('inert_pickle')
    vars(reader).update(Unpickler=_InertUnpickler, load=lambda file, **kwargs: _InertUnpickler(file, **kwargs).load())
    try:
        _refuse_program(path)
        # torch accepts an unpickler of ours only without weights_only; ours builds tensors and containers, nothing else
        content = torch.load(path, map_location='cpu', pickle_module=reader, weights_only=False)
    except Exception as error:  # what a damaged file raises depends on the byte
        raise ValueError(f'the checkpoint {path} cannot be read ({type(error).__name__}: {error})') from error
    for candidate in _candidates(content):
        state = {str(name): value.detach() for name, value in candidate.items() if isinstance(value, Tensor)}
        if state and len(state) >= len(candidate) / 2:
            _name_left_out(path, [str(name) for name in candidate if str(name) not in state])
            return {name.removeprefix('module.'): value for name, value in state.items()}
    raise ValueError(
        f'the checkpoint {path} has no names with tensors. If a whole model was pickled, save its state_dict() '
        'with the program that wrote it'
    )


def _refuse_program(path: str | Path) -> None:
    """Raise for formats that ``torch.load`` reads by more than its unpickler: TorchScript runs, an archive unpacks."""
    if is_torchscript(path):
        raise ValueError('it is a program of TorchScript, not a checkpoint')
    if tarfile.is_tarfile(path):
        raise ValueError('it is a tar archive. Unpack it, and give the checkpoint that is in it')


def _name_left_out(path: str | Path, names: list[str]) -> None:
    """Warn of what is no tensor."""
    if names:
        more = f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else ''
        message = f'{path}: entries that are not read as tensors are left out: {", ".join(names[:MAX_NAMED])}{more}'
        print_log(message, logger='current', level=logging.WARNING)


def write_weights(path: str | Path, out: str | Path) -> dict[str, Tensor]:
    """Write the weights of a checkpoint to a file that PyTorch's safe loader reads.

    Args:
        path: As ``extract_weights``.
        out: The file to write.

    Returns:
        The weights.

    Raises:
        FileNotFoundError: As ``extract_weights``.
        ValueError: As ``extract_weights``.
    """
    state = extract_weights(path)
    write_whole(out, lambda part: torch.save(dict(state_dict=state), part))
    return state


def _candidates(content: Any, depth: int = DEPTH) -> Iterator[Mapping]:
    """Where the weights may be, the likeliest first."""
    if not isinstance(content, Mapping):
        return
    for key in STATE_KEYS if depth else ():
        if isinstance(content.get(key), Mapping):
            yield from _candidates(content[key], depth - 1)
    yield content
