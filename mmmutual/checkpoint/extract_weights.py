"""Read the weights of a checkpoint of another program without running any code in it.

Such files contain more than weights: command-line options, pickled models, classes of packages that are not installed.
PyTorch's safe loader refuses them. This module rebuilds tensors as PyTorch does, and replaces everything else by inert
objects.
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
    """Placeholder for an object of a class that is not read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Accept and ignore all arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Return another placeholder instead of calling anything."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        """Ignore the content."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an item of a dict."""

    def append(self, value: Any) -> None:
        """Ignore an item of a list."""

    def extend(self, values: Any) -> None:
        """Ignore items of a list."""

    def add(self, value: Any) -> None:
        """Ignore an item of a set."""


class _InertUnpickler(PythonUnpickler):
    """Build tensors and their containers; replace everything else by inert objects.

    The unpickler only calls objects that ``find_class`` returns. It does not set attributes: a file could use them to
    change functions and classes of this process.
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
    """Read the weights of a checkpoint and ignore all other content; no code in the file runs.

    Args:
        path: A file of ``torch.save``.

    Returns:
        Tensors under their names, without the ``module.`` of a distributed model. They come from the first of the keys
        ``state_dict``, ``model``, ``model_state_dict`` and so on that has tensors, or else from the top level of the
        file. A warning names the other entries at the same level, for example quantised and sparse tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has no named tensors, for example if the model itself was pickled.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint file {path} on this machine')
    reader = ModuleType('inert_pickle')
    vars(reader).update(Unpickler=_InertUnpickler, load=lambda file, **kwargs: _InertUnpickler(file, **kwargs).load())
    try:
        _refuse_program(path)
        # torch accepts a custom unpickler only without weights_only; this one only builds tensors and containers
        content = torch.load(path, map_location='cpu', pickle_module=reader, weights_only=False)
    except Exception as error:  # the type of error depends on the damaged byte
        raise ValueError(f'the checkpoint {path} cannot be read ({type(error).__name__}: {error})') from error
    for candidate in _candidates(content):
        state = {str(name): value.detach() for name, value in candidate.items() if isinstance(value, Tensor)}
        if state and len(state) >= len(candidate) / 2:
            _name_left_out(path, [str(name) for name in candidate if str(name) not in state])
            return {name.removeprefix('module.'): value for name, value in state.items()}
    raise ValueError(
        f'the checkpoint {path} has no named tensors. If the model itself was pickled, save its state_dict() with the '
        'program that wrote it'
    )


def _refuse_program(path: str | Path) -> None:
    """Raise for formats that ``torch.load`` reads without the unpickler: TorchScript programs and tar archives."""
    if is_torchscript(path):
        raise ValueError('it is a TorchScript program, not a checkpoint. Save the state_dict() of the model instead')
    if tarfile.is_tarfile(path):
        raise ValueError('it is a tar archive. Unpack it, and pass the checkpoint inside')


def _name_left_out(path: str | Path, names: list[str]) -> None:
    """Warn about entries that are not tensors."""
    if names:
        more = f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else ''
        message = f'{path}: entries that cannot be read as tensors are left out: {", ".join(names[:MAX_NAMED])}{more}'
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
    """Mappings that may be the weights, the likeliest first."""
    if not isinstance(content, Mapping):
        return
    for key in STATE_KEYS if depth else ():
        if isinstance(content.get(key), Mapping):
            yield from _candidates(content[key], depth - 1)
    yield content
