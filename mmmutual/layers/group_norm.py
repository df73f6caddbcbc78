"""Slimmable group norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .forward import slimmable_forward
from .frozen import operands_of
from .inputs import check_input
from .segments import Segment, check_segments, take, whole_groups
from .width import Slimmable


@MODELS.register_module('SlimGN')
class SlimGroupNorm(Slimmable, nn.GroupNorm):
    """A group norm over the first of its groups.

    The channels per group stay fixed, so a narrow sub-network has fewer groups. Nothing is stored per width.

    Args:
        num_channels: Channels at full width; first, as ``norm_cfg`` passes it.
        num_groups: Groups at full width.
        eps: Added to the variance.
        affine: As ``nn.GroupNorm``.
        device: As ``nn.GroupNorm``.
        dtype: As ``nn.GroupNorm``.
        bias: As ``nn.GroupNorm``.
    """

    _abbr_ = 'gn'

    def __init__(
        self,
        num_channels: int,
        num_groups: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        without_bias = {} if bias else dict(bias=False)  # older versions of torch have no such argument
        super().__init__(num_groups, num_channels, eps, affine, device, dtype, **without_bias)
        self.set_up()

    def set_up(self) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""
        self.segments: tuple[Segment, ...] | None = None

    def divide(self, segments: Sequence[Segment]) -> None:
        """Set the segments of the channels, as those of the convolution before it.

        Args:
            segments: Segments that make up the channels, each of whole groups at every width; any if all are full.

        Raises:
            ValueError: For other segments.
        """
        segments = check_segments(segments, self.num_channels, str(self))
        if all(segment.is_full for segment in segments):
            segments = (Segment.full(self.num_channels),)
        whole_groups(segments, self.num_channels // self.num_groups, f'the input of {self}')
        self.segments = segments

    def active_tensors(self, channels: int) -> dict[str, Tensor]:
        """The active part of weight and bias, as far as it has them, for the channels of an input."""
        segments = self.segments or (Segment.full(channels),)
        return {
            name: value if channels == self.num_channels else take(value, segments, self.width)
            for name, value in self.named_parameters(recurse=False)
        }

    def active_sizes(self, channels: int) -> dict[str, int]:
        """The attributes of the narrow norm that count the channels of an input."""
        return dict(num_channels=channels, num_groups=self.num_groups * channels // self.num_channels)

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Normalise whole groups of the active channels.

        Args:
            x: (N, C, *) with C at most ``num_channels``.

        Returns:
            The same shape as ``x``.

        Raises:
            ValueError: If C is not a whole number of groups, or not the active part of the segments.
        """
        groups, weight, bias = operands_of(self, x.shape[1])
        return F.group_norm(x, groups, weight, bias, self.eps)

    def active_operands(self, key: int) -> tuple[int, Tensor | None, Tensor | None]:
        """The number of groups, and the active weight and bias."""
        channels, per_group = key, self.num_channels // self.num_groups
        if self.segments is not None:
            check_input(self, channels, self.num_channels, self.segments)
        if channels > self.num_channels or channels % per_group:
            raise ValueError(
                f'the input has {channels} channels, but {self} needs a multiple of {per_group}, at most '
                f'{self.num_channels}. Choose num_groups so that every width keeps whole groups'
            )
        active = self.active_tensors(channels)
        return channels // per_group, active.get('weight'), active.get('bias')
