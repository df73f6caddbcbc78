"""Plans how a model slims, and how a neck does that is built by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import nn

from mmmutual.layers import decoder_layers, use_decoder_layers

from .dry_run import ERRORS, first_line, noise, run_backbone, run_levels, run_whole, untouched
from .plan import SlimmingPlan
from .planner import Planner
from .scope import FilterFn, backbone_of, check_scope
from .trace import Trace


def plan_slimming(model: nn.Module, scope: str = 'backbone', filter_fn: FilterFn | None = None) -> SlimmingPlan:
    """Plan the slimmable layers of a model, and the channels that slim together. The model does not change.

    The model runs on a small image, and each channel is followed from the layer that writes it to those that read it.
    Channels that are added, gated or otherwise meet slim together. Channels that meet an operation which mixes them, or
    an unknown operation, are active at every width. Then narrow networks are simulated; channels that would arrive at
    another place than at full width are active at every width as well.

    Args:
        model: An mmdet detector or another model with a ``backbone``, or a backbone alone.
        scope: The part that is slimmable: ``'backbone'``, as in the paper, with the inputs of the layers that read its
            output; or ``'detector'``: neck and heads too, except for predictions.
        filter_fn: Called with each layer that could be slimmable and its name in the model; False leaves it stock.

    Returns:
        The plan.

    Raises:
        ValueError: If ``scope`` is unknown, if the model consists of several models, if it does not run on an image
            alone, or if nothing in its backbone can be slimmable.

    Examples:
        >>> plan = plan_slimming(detector)
        >>> print(plan)
        +RetinaNet, scope backbone-----+--------+---------------+---------------+
        | part      | layers that slim | groups | multiply-adds | of which slim |
        +-----------+------------------+--------+---------------+---------------+
        | backbone  |         40 of 40 |     12 |         78.7% |        100.0% |
        | neck      |           4 of 8 |      0 |          7.2% |         13.6% |
        | bbox_head |           0 of 4 |      0 |         14.1% |          0.0% |
        | all       |         44 of 52 |     12 |        100.0% |         79.7% |
        +-----------+------------------+--------+---------------+---------------+
        >>> plan.apply_(widths=(1.0, 0.5, 0.25))
    """
    with_heads = check_scope(scope) == 'detector'
    backbone = backbone_of(model)
    alone = backbone is model
    planner = Planner(model, set(model.modules()) if with_heads else set(backbone.modules()), filter_fn)
    reason = 'they leave the model'
    with use_decoder_layers(model, decoder_layers(model)), untouched(model):  # layers that are left out slim too
        try:
            run, size = planner.trace_smallest(run_whole if with_heads and not alone else run_levels)
        except ERRORS as error:
            if alone or with_heads:
                raise ValueError(_does_not_run(model, with_heads and not alone, error)) from error
            reason = f'what is behind the backbone does not run here ({first_line(error)})'
            run, size = planner.trace_smallest(run_backbone)
        if not alone and not with_heads and planner.slims_at_end:  # heads read the backbone: no neck is between
            with suppress(*ERRORS):
                run, size = planner.trace_smallest(run_whole)
        planner.settle(lambda trace: run(model, size), keep_ends='' if alone else reason)
    plan = planner.plan(scope)
    inside = set(backbone.modules())
    own = replace(plan, layers=tuple(layer for layer in plan.layers if layer.layer in inside))
    if not any(layer.slims_out for layer in own.layers):
        raise ValueError(
            f'{type(backbone).__name__} cannot be made slimmable: '
            f'{own.main_reason("none of its layers can produce fewer channels")}. '
            'Choose another backbone, for example ResNet, RegNet or MobileNetV2'
        )
    return plan


def plan_neck(neck: nn.Module, in_channels: Sequence[int], slim_out: bool = False) -> SlimmingPlan:
    """Plan the slimmable layers of a neck that is built by itself, behind levels with the first of their channels.

    Args:
        neck: A neck that accepts a list of levels.
        in_channels: The levels' channels at full width, as the neck's argument has them.
        slim_out: Whether the outputs of the neck slim too.

    Returns:
        The plan.

    Raises:
        ValueError: If it does not accept fewer channels (with the reason), or if it does not run on such levels.
    """
    planner = Planner(neck, set(neck.modules()) if slim_out else set(), None)
    parameter = next(neck.parameters())

    def feed(trace: Trace, order: Sequence[int]) -> object:
        sizes = [2 ** (len(order) + 1 - index) for index in range(len(order))]
        levels = [noise(parameter, 2, channels, size, size) for channels, size in zip(order, sizes)]
        return neck([trace.feed(index, level) for index, level in enumerate(levels)])

    with untouched(neck):
        for order in (in_channels, in_channels[::-1]):  # YOLOv3's neck names the last level first
            try:
                planner.trace(partial(feed, order=order))
            except ERRORS as error:
                if order is not in_channels:
                    raise ValueError(_does_not_run(neck, False, error)) from error
            else:
                break
        planner.settle(lambda trace: feed(trace, order), keep_ends='' if slim_out else 'they leave the neck')
    levels = [vector for source, vector in planner.full.outputs.items() if not isinstance(source, nn.Module)]
    for vector in levels:
        reason = planner.ids.reason(vector)
        if reason:
            raise ValueError(f'{type(neck).__name__} cannot be made slimmable behind a slimmable backbone: {reason}')
    return planner.plan('detector' if slim_out else 'backbone')


def _does_not_run(model: nn.Module, with_heads: bool, error: Exception) -> str:
    """Why a model that does not run cannot be planned."""
    kind = type(model).__name__
    if with_heads:
        return (
            f"{kind} does not run on an image alone, so the readers of its heads' layers are unknown "
            f"({first_line(error)}). Choose scope='backbone'"
        )
    return f'{kind} does not run on an image alone, so the readers of its layers are unknown ({first_line(error)})'
