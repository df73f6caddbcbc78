"""A built detector becomes slimmable in place, with its own parameters, and stock again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmmutual.layers import Slimmable, check_ratios, unslim_layer_

from .plan import unswap_block_
from .planning import plan_slimming
from .scope import FilterFn


def make_slimmable_(
    model: nn.Module, widths: Sequence[float], filter_fn: FilterFn | None = None, slim: str = 'backbone'
) -> None:
    """Make a built model slimmable, in place: ``plan_slimming``, and its plan applied.

    With ``slim='backbone'``, as in the paper, the layers of the backbone slim. Those that read what it gives, in the
    neck or in the heads, take the channels that arrive and give all of theirs.

    With ``slim='detector'`` neck and heads slim too: a layer whose output others read slims on both sides, a layer
    whose output is a prediction on its input only. Layers that run in training only take what arrives and give all.

    Batch norms keep statistics for each width, those of neck and heads too. Each layer remains the same object:
    parameters, names in the checkpoint, training flags, hooks and sharing stay. Layers that are slimmable already stay
    as they are.

    Args:
        model: An mmdet detector or another model with a ``backbone``, or a backbone alone.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        filter_fn: Called with each layer that could slim and its name in the model; False leaves it stock. By
            default all of the parts above slim.
        slim: ``'backbone'`` or ``'detector'``.

    Raises:
        TypeError: If ``widths`` is no list of numbers.
        ValueError: If ``widths`` is out of range, or as ``plan_slimming``. The model is as before then.

    Examples:
        >>> mmmutual.make_slimmable_(detector, widths=(1.0, 0.5))
        >>> mmmutual.set_width(detector, 0.5)
    """
    widths = check_ratios(widths)
    plan_slimming(model, slim, filter_fn).apply_(widths)


def undo_slimmable_(model: nn.Module) -> None:
    """Undo the last ``make_slimmable_`` of a model, in place: the network of width 1.0.

    The statistics of the other widths are dropped. What was slimmable before stays so.

    Args:
        model: A model after ``make_slimmable_``; any other stays as it is.
    """
    for module in model.modules():
        if isinstance(module, Slimmable):
            unslim_layer_(module)
        else:
            unswap_block_(module)
