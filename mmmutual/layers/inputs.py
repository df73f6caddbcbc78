"""The number of channels that arrive at a slimmable layer, and the numbers that it accepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .channels import active_channels
from .segments import Segment


def channel_count(x: Tensor, dim: int) -> int:
    """Size of a dimension as a Python integer, also while ``torch.jit.trace`` runs, where sizes are tensors.

    Args:
        x: Any shape.
        dim: The channels' dimension.

    Returns:
        The size.
    """
    return as_int(x.size(dim))


def as_int(size: Any) -> Any:
    """A number as a Python integer, if it is a tensor, as a size is in a trace."""
    return int(size) if isinstance(size, (Tensor, torch.SymInt)) else size


def check_input(layer: nn.Module, channels: int, full: int, segments: Sequence[Segment] | None) -> None:
    """Validate the channels of an input: the layer accepts all of them, or those that are active at its width.

    Fewer channels would use a part of the weights and never train the rest. A linear layer also accepts the active
    channels of maps that were flattened, each with the same number of pixels.

    Args:
        layer: A slimmable layer.
        channels: Channels of the input.
        full: Channels that the layer accepts at full width.
        segments: Segments of the input; None is one run of channels, in multiples of 8.

    Raises:
        ValueError: For any other number, with the layer, the accepted numbers and the likely cause.
    """
    if channels == full:
        return
    parts = segments or (Segment(full),)
    active = [segment.active(layer.width) for segment in parts]
    if channels == sum(active) or (
        segments is None and isinstance(layer, nn.Linear) and _are_flattened(channels, full, layer.width)
    ):
        return
    unit = 'features' if isinstance(layer, nn.Linear) else 'channels'
    name = 'in_features' if unit == 'features' else 'in_channels'
    got = f'the input has {channels} {unit}, but {layer} accepts'
    if channels > full:
        raise ValueError(f'{got} at most {full}. Is its {name} that of another backbone or neck?')
    if len(parts) > 1 and sum(active) < full:
        sizes = [segment.channels for segment in parts]
        raise ValueError(f'{got} {active} of its segments {sizes} at width {layer.width:g}, or all of them')
    allowed = f'all {full}' if sum(active) == full else f'the {sum(active)} active ones or all {full}'
    raise ValueError(
        f'{got} {allowed} at width {layer.width:g}. Is its {name} that of another backbone or neck? If the layer '
        f'before it slims in multiples of another number than {parts[0].divisor}, call divide(inputs=...)'
    )


def _are_flattened(features: int, full: int, width: float) -> bool:
    """Whether features are the active channels of ``full`` features of maps, whatever their number of pixels."""
    common = math.gcd(features, full)
    return any(
        active_channels(full // pixels, width) * pixels == features
        for pixels in range(2, common + 1)
        if common % pixels == 0
    )
