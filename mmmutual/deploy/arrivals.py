"""Numbers of channels that the slimmable layers of a model receive at its current width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from mmmutual.layers import (
    DividedLayer,
    PooledStatistics,
    SlimBatchNorm2d,
    Slimmable,
    SlimParameters,
    get_width,
    slimmable_layers,
)
from mmmutual.slimming.dry_run import ERRORS, first_line, run_levels, run_whole, smallest_size, untouched
from mmmutual.slimming.roles import channel_dim, channels_out, features


def arriving_channels(model: nn.Module) -> dict[nn.Module, set[int]]:
    """The numbers of channels that each slimmable layer receives at the current width.

    The numbers follow from the segments of the layers' inputs. If the segments of any layer are unknown, the model runs
    on a small image. Layers that do not run then (for example those for training only) have the channels of their
    segments, or all channels if the segments are unknown.

    Args:
        model: A model with slimmable layers.

    Returns:
        For each layer one number, or several if it receives different numbers in one run.

    Raises:
        ValueError: If the model has layers of unknown input segments and does not run on a small image.
    """
    layers = [layer for layer in slimmable_layers(model) if not isinstance(layer, SlimParameters)]
    found = {} if all(_segments(layer) for layer in layers) else _of_a_run(model, layers)
    return {layer: found[layer] if layer in found else {_by_segments(layer)} for layer in layers}


def _segments(layer: Slimmable) -> tuple | None:
    """The segments of a layer's input; None if they are unknown."""
    return layer.in_segments if isinstance(layer, DividedLayer) else getattr(layer, 'segments', None)


def _by_segments(layer: Slimmable) -> int:
    """The active channels of the segments; all channels if they are unknown."""
    segments = _segments(layer)
    if segments is not None:
        return sum(segment.active(layer.width) for segment in segments)
    if isinstance(layer, DividedLayer):
        return layer.sizes[0]
    return channels_out(layer)


def _of_a_run(model: nn.Module, layers: Sequence[Slimmable]) -> dict[nn.Module, set[int]]:
    """The numbers of channels that layers receive in one run, without the layers that do not run."""
    arrived: dict[nn.Module, set[int]] = {}

    def note(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        dim = channel_dim(layer, kwargs)
        arrived.setdefault(layer, set()).update(value.size(dim) for value in features(layer, args, kwargs))

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    reason: Exception = ValueError('nothing ran')
    try:
        with untouched(model, get_width(model)):
            for layer in layers:
                if isinstance(layer, SlimBatchNorm2d):
                    layer.pooled = PooledStatistics()  # the width may have no statistics yet
            for run in (run_whole, run_levels):
                arrived.clear()
                try:
                    smallest_size(run, model, partial(run, model))
                    return arrived
                except ERRORS as error:
                    reason = reason or error
    finally:
        for handle in handles:
            handle.remove()
    raise ValueError(
        f'{type(model).__name__} has slimmable layers without in_segments and does not run on a small image, so the '
        f'channels of their inputs are unknown ({first_line(reason)}). Call divide(inputs=...) of these layers'
    )
