"""Make a built detector slimmable in place, with its parameters, and stock again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmmutual.layers import Slimmable, SlimParameters, check_ratios, unslim_layer_, unslim_parameters_
from mmmutual.moved_names import renamed_argument

from .block_swap import unswap_block_
from .plan_model import plan_slimming
from .scope import FilterFn


@renamed_argument('slim', 'scope')
def make_slimmable_(
    model: nn.Module, widths: Sequence[float], filter_fn: FilterFn | None = None, scope: str = 'backbone'
) -> None:
    """Make a built model slimmable, in place: ``plan_slimming``, and its plan applied.

    With ``scope='backbone'``, as in the paper, the layers of the backbone are slimmable. The layers of neck or heads
    that read its output accept the channels that arrive, and have full outputs.

    With ``scope='detector'``, neck and heads are slimmable too: input and output of a layer whose output other layers
    read, and the input of a layer whose output is a prediction. Layers that run only in training have full outputs.

    Batch norms keep statistics for each width, also in neck and heads. Each layer remains the same object: parameters,
    names in the checkpoint, training flags, hooks and sharing stay. Layers that are slimmable already do not change.

    Args:
        model: An mmdet detector or another model with a ``backbone``, or a backbone alone.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        filter_fn: Called with each layer that could be slimmable and its name in the model; False leaves it stock. By
            default all layers of the scope are slimmable.
        scope: The part that is slimmable: ``'backbone'`` or ``'detector'``.

    Raises:
        TypeError: If ``widths`` is not a list of numbers.
        ValueError: If ``widths`` is out of range, or as ``plan_slimming``. The model is then unchanged.

    Examples:
        >>> mmmutual.make_slimmable_(detector, widths=(1.0, 0.5))
        >>> mmmutual.set_width(detector, 0.5)
    """
    widths = check_ratios(widths)
    plan_slimming(model, scope, filter_fn).apply_(widths)


def undo_slimmable_(model: nn.Module) -> None:
    """Undo the last ``make_slimmable_`` of a model, in place: the network of width 1.0.

    The statistics of the other widths are dropped. Layers that were slimmable before stay slimmable.

    Args:
        model: A model after ``make_slimmable_``; any other does not change.
    """
    for module in model.modules():
        unslim_parameters_(module)
        if isinstance(module, SlimParameters):  # its class remains, as it was slimmable before
            continue
        if isinstance(module, Slimmable):
            unslim_layer_(module)
        else:
            unswap_block_(module)
