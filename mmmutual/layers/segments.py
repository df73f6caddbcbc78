"""Segments: the runs of channels of a tensor whose channels do not slim as one run.

After ``torch.cat((a, b), 1)`` the active channels are the first of ``a`` and the first of ``b``, not the first of both
together. A layer that reads such a tensor is configured with its segments; all other layers have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmmutual.moved_names import warn_of_renamed

from .channels import DIVISOR, active_channels


class Segment(NamedTuple):
    """A run of channels that slims as one.

    Attributes:
        channels: Its channels at full width.
        divisor: The number of active channels is a multiple of it: the channels per group for whole groups, 8 times
            the expansion for the inside of an inverted residual.

    Examples:
        >>> [Segment(48).active(0.5), Segment(48, divisor=16).active(0.5), Segment.full(48).active(0.5)]
        [24, 32, 48]
    """

    channels: int
    divisor: int = DIVISOR

    @classmethod
    def full(cls, channels: int) -> Segment:
        """A run whose channels are all active at every width, as those of a neck."""
        return cls(channels, channels)

    @property
    def is_full(self) -> bool:
        """Whether all channels are active at every width."""
        return self.divisor >= self.channels

    @property
    def is_complete(self) -> bool:
        """Deprecated: ``is_full``."""
        warn_of_renamed('Segment.is_complete', 'is_full')
        return self.is_full

    @classmethod
    def complete(cls, channels: int) -> Segment:
        """Deprecated: ``full``."""
        warn_of_renamed('Segment.complete', 'full')
        return cls.full(channels)

    def active(self, width: float) -> int:
        """Number of active channels at a width multiplier."""
        return active_channels(self.channels, width, self.divisor)


def check_segments(segments: Sequence[Segment], channels: int, layer: str) -> tuple[Segment, ...]:
    """Validate that segments make up the channels of a layer.

    Args:
        segments: The runs of channels, in their order.
        channels: Channels of the layer at full width.
        layer: The layer, for the message.

    Returns:
        The segments.

    Raises:
        ValueError: If they have another number of channels.
    """
    if sum(segment.channels for segment in segments) != channels:
        sizes = [segment.channels for segment in segments]
        raise ValueError(f'segments must add up to the {channels} channels of {layer}, but got {sizes}')
    return tuple(segments)


def whole_groups(segments: Sequence[Segment], per_group: int, side: str) -> tuple[Segment, ...]:
    """The segments of a grouped layer's side, counted in groups instead of channels.

    Args:
        segments: The runs of channels.
        per_group: Channels of a group.
        side: The side of the layer, for the message.

    Returns:
        A segment of groups for each.

    Raises:
        ValueError: If a segment is not made of whole groups at every width.
    """
    for segment in segments:
        if segment.channels % per_group or (segment.divisor % per_group and not segment.is_full):
            raise ValueError(
                f'{side} must divide into whole groups of {per_group} channels at every width, but got '
                f'{list(segments)}. Choose channels and divisors that are multiples of {per_group}'
            )
    return tuple(Segment(each.channels // per_group, min(each[:2]) // per_group) for each in segments)


def in_groups(segments: Sequence[Segment], groups: int) -> list[tuple[Segment, ...]]:
    """The segments of each of the equal groups of a layer's side.

    Args:
        segments: The runs of channels; those with full outputs are cut where a group ends.
        groups: The number of groups.

    Returns:
        The segments group by group; a segment that slims and reaches into the next group is in its first group.
    """
    size, start = sum(segment.channels for segment in segments) // groups, 0
    found: list[list[Segment]] = [[] for _ in range(groups)]
    for segment in segments:
        rest = segment.channels
        while rest:
            part = min(rest, size - start % size) if segment.is_full else rest
            found[start // size].append(Segment.full(part) if segment.is_full else segment)
            start, rest = start + part, rest - part
    return [tuple(each) for each in found]


def take(tensor: Tensor, segments: Sequence[Segment], width: float, dim: int = 0) -> Tensor:
    """The active part of each segment: the tensor itself if that is all, a view if there is one segment, else a copy.

    Args:
        tensor: Any shape, with all channels of the segments along ``dim``.
        segments: The runs of channels.
        width: Width multiplier in (0, 1].
        dim: The channels' dimension.

    Returns:
        The tensor with the active channels along ``dim``.
    """
    active = [segment.active(width) for segment in segments]
    if sum(active) == tensor.size(dim):
        return tensor
    if len(active) == 1:
        return tensor.narrow(dim, 0, active[0])
    return torch.cat(_parts(tensor, segments, active, dim), dim)


@torch.no_grad()
def put(tensor: Tensor, values: Tensor, segments: Sequence[Segment], width: float) -> None:
    """Write values into the active part of each segment: the inverse of ``take``.

    Args:
        tensor: (C,), all channels; changed in place.
        values: (K,), the active ones.
        segments: The runs of channels.
        width: Width multiplier in (0, 1].
    """
    active = [segment.active(width) for segment in segments]
    for part, value in zip(_parts(tensor, segments, active, 0), values.split(active)):
        part.copy_(value)


def _parts(tensor: Tensor, segments: Sequence[Segment], active: Sequence[int], dim: int) -> list[Tensor]:
    parts, start = [], 0
    for segment, size in zip(segments, active):
        parts.append(tensor.narrow(dim, start, size))
        start += segment.channels
    return parts
