"""Active weights that are kept in inference, while a promise holds: no weight changes.

The promise has to be explicit, because PyTorch does not record every write: one through ``.data`` leaves no trace.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.compiler import is_compiling, is_dynamo_compiling

from mmmutual.tensor_tree import tensors_in

from .inputs import as_int
from .watched_tensors import WatchedTensor, have_changed, watched_tensors
from .width import Slimmable, slimmable_layers


@contextmanager
def frozen(model: nn.Module, check: bool = False) -> Iterator[None]:
    """Keep the active weights of each width in a block that runs inference only.

    Inside the block no weight, buffer or segment of the slimmable layers may change; the width may. Each layer slices
    its weights at the first call of a width and keeps them until the block ends, so that a narrow layer costs as much
    as the static one. The outputs are the same bit for bit.

    The usual changes are noticed, and the weights sliced again: ``load_state_dict``, an optimizer step, calibration,
    training, ``to``, and writes to a weight that torch records. Those through ``.data`` or NumPy are not, and writes to
    a batch norm's bias, mean or variance alone are not. While torch records gradients, and by a batch norm in training
    mode, nothing is kept.

    The kept tensors of width w need up to w² times the memory of the slimmable weights. In a nested block those of the
    outer block stay until it ends. Copies and checkpoints of the model never contain them.

    Args:
        model: A model with slimmable layers.
        check: Whether to compare the kept tensors with newly sliced ones at each use, which is slow: for a search for
            changes that are not noticed.

    Yields:
        Nothing.

    Raises:
        ValueError: If the model has no slimmable layer. In a forward with ``check``, if a weight of a layer has
            changed unnoticed.

    Examples:
        >>> with torch.no_grad(), mmmutual.frozen(model):
        ...     for width in (1.0, 0.5):
        ...         mmmutual.set_width(model, width)
        ...         features = model.extract_feat(torch.rand(1, 3, 64, 96))
    """
    names = {layer: name for name, layer in model.named_modules()}
    opened, checked = [], []
    for layer in slimmable_layers(model):
        if layer._kept is None:
            layer._kept = Kept(layer, names[layer], check)
            opened.append(layer)
        elif check and not layer._kept.check:
            layer._kept.check = True
            checked.append(layer._kept)
    try:
        yield
    finally:
        for layer in opened:
            if '_kept' in vars(layer):  # the block may have made it stock
                del layer._kept
        for kept in checked:
            kept.check = False


def operands_of(layer: Slimmable, key: Any) -> Any:
    """The operands of the ``forward`` of a layer: ``active_operands``, or those that a ``frozen`` block has kept.

    Args:
        layer: The layer.
        key: The argument of ``active_operands``: usually the channels of the input, as its shape has them.

    Returns:
        The operands.

    Raises:
        ValueError: As ``active_operands``.
    """
    if not is_dynamo_compiling():  # without a call of torch.jit, as in is_compiling
        kept = layer._kept
        if kept is not None and not is_grad_enabled():
            found = kept.found.get((layer.width, key))
            if found is None or have_changed(found[1]) or layer is not kept.layer:
                return kept.compute(layer, key)
            if kept.check:
                kept.compare(found[0], key)
            return found[0]
    return layer.active_operands(as_int(key))


class Kept:
    """The operands of a layer in a ``frozen`` block, for each width and key.

    Args:
        layer: The layer.
        name: Its name in the model, for the message.
        check: Whether to compare with newly computed operands at each use.
    """

    def __init__(self, layer: Slimmable, name: str, check: bool) -> None:
        self.layer, self.name, self.check = layer, name, check
        self.found: dict[tuple[float, Hashable], tuple[Any, list[WatchedTensor]]] = {}

    def __reduce__(self) -> tuple:
        """Become None in a copy or a pickle of the layer."""
        return type(None), ()

    def compute(self, layer: Slimmable, key: Any) -> Any:
        """The operands at the width of a layer, which are kept if later changes can be noticed."""
        operands = layer.active_operands(as_int(key))
        if layer is not self.layer or isinstance(key, Tensor) or is_compiling():  # a shallow copy; a trace; an export
            return operands
        watched = watched_tensors(layer, layer.operand_names(key))
        if watched is not None:
            operands = _dense(operands)
            self.found[layer.width, key] = operands, watched
        return operands

    def compare(self, operands: Any, key: Hashable) -> None:
        """Raise ``ValueError`` if operands are not those that the layer has now."""
        pairs = zip(tensors_in([operands]), tensors_in([self.layer.active_operands(key)]))
        if not all(torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True) for ours, theirs in pairs):
            raise ValueError(
                f'a weight of {self.name or type(self.layer).__name__} has changed inside a frozen block unnoticed, '
                'for example by a write through .data: write weights before the block, or with load_state_dict'
            )


def _dense(operands: Any) -> Any:
    """Copy the kernels of convolutions that are not dense, since a convolution would copy them at each call.

    Matrix products read matrices that are not dense, and may round others differently.
    """
    if isinstance(operands, dict):
        return {name: _dense(value) for name, value in operands.items()}
    if isinstance(operands, tuple):
        return tuple(map(_dense, operands))
    if not isinstance(operands, Tensor) or operands.dim() < 3:
        return operands
    copied = operands.clone()  # in the order of the strides, such as channels last
    return operands if copied.stride() == operands.stride() else copied
