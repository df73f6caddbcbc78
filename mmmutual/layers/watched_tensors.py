"""The tensors of a module as they were at a time, to see later whether they have changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmmutual.upstream import module_state, write_count


class WatchedTensor(NamedTuple):
    """A tensor of a module, as it was.

    Attributes:
        tensors: The parameters or buffers of the module by name, which may hold another tensor later.
        name: The name of the tensor among them.
        tensor: The tensor.
        writes: How many writes torch has counted. It does not count those through ``.data``.
    """

    tensors: Any
    name: str
    tensor: Tensor
    writes: int


def watched_tensors(module: nn.Module, names: Collection[str] | None = None) -> list[WatchedTensor] | None:
    """The present parameters and buffers of a module.

    Args:
        module: Any module.
        names: Names of some of its tensors; None for all tensors, with those of its parts.

    Returns:
        The tensors; None if one of them has no count of writes, as those made in ``torch.inference_mode``.
    """
    found = []
    tensors: dict[str, Any]
    for part in module.modules() if names is None else (module,):
        for tensors, _ in module_state(part)[1:3]:
            for name, tensor in tensors.items():
                if tensor is None or (names is not None and name not in names):
                    continue
                try:
                    found.append(WatchedTensor(tensors, name, tensor, write_count(tensor)))
                except RuntimeError:
                    return None
    return found


def have_changed(watched: Sequence[WatchedTensor]) -> bool:
    """Whether one of the tensors was replaced or written, as far as torch shows it.

    Moves and conversions of a module may keep its parameters and the counts. Their addresses would show them, but
    reading the addresses costs a small network several percent of its time.
    """
    for tensors, name, tensor, writes in watched:
        if tensors.get(name) is not tensor or write_count(tensor) != writes:
            return True
    return False
