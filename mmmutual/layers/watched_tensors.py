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
        address: The address of its memory.
    """

    tensors: Any
    name: str
    tensor: Tensor
    writes: int
    address: int


def watched_tensors(module: nn.Module, names: Collection[str] | None = None) -> list[WatchedTensor] | None:
    """The present parameters and buffers of a module.

    Args:
        module: Any module.
        names: Names of some of its tensors; None for all tensors, with those of its parts.

    Returns:
        The tensors; None if one of them has no count of writes or no address, as in ``torch.inference_mode``.
    """
    found = []
    tensors: dict[str, Any]
    for part in module.modules() if names is None else (module,):
        for tensors, _ in module_state(part)[1:3]:
            for name, tensor in tensors.items():
                if tensor is None or (names is not None and name not in names):
                    continue
                try:
                    found.append(WatchedTensor(tensors, name, tensor, write_count(tensor), tensor.data_ptr()))
                except RuntimeError:
                    return None
    return found


def have_changed(watched: Sequence[WatchedTensor]) -> bool:
    """Whether one of the tensors was replaced, written or moved, as far as torch shows it."""
    for tensors, name, tensor, writes, address in watched:
        if tensors.get(name) is not tensor or write_count(tensor) != writes or tensor.data_ptr() != address:
            return True
    return False
