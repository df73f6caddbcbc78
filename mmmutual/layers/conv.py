"""Slimmable convolution (Slimmable Neural Networks, arXiv 1812.08928; github taoyang1122/MutualNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .forward import slimmable_forward
from .inputs import channel_count, check_input
from .segments import Segment, check_segments, take
from .width import Slimmable

Pair = int | tuple[int, int]


@MODELS.register_module()
class SlimConv2d(Slimmable, nn.Conv2d, _ConvNd):
    """A convolution that can run on the first of its channels.

    The active input channels are those of the input tensor; the active output channels follow the width. A grouped
    convolution keeps whole groups with their channels per group fixed, so its output follows its input; depthwise is
    the case of one channel per group.

    Where the input is a concatenation, or the output is split or feeds a grouped convolution, :meth:`divide` tells it
    the segments.

    Args:
        in_channels: Input channels at full width.
        out_channels: Output channels at full width.
        kernel_size: As ``nn.Conv2d``, as are all arguments but the last.
        stride: As ``nn.Conv2d``.
        padding: As ``nn.Conv2d``.
        dilation: As ``nn.Conv2d``.
        groups: Groups at full width.
        bias: As ``nn.Conv2d``.
        padding_mode: As ``nn.Conv2d``.
        device: As ``nn.Conv2d``.
        dtype: As ``nn.Conv2d``.
        slim_out: Whether the output slims. If False, all output channels are always computed.

    Raises:
        ValueError: For a grouped convolution without ``slim_out``.

    Example:
        >>> conv = SlimConv2d(64, 128, 3)
        >>> mmmutual.set_width(conv, 0.5)
        >>> conv(torch.rand(1, 32, 8, 8)).shape
        torch.Size([1, 64, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: str | Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = 'zeros',
        device: Any = None,
        dtype: Any = None,
        *,
        slim_out: bool = True,
    ) -> None:
        options = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel_size, *options)
        if self.groups > 1 and not slim_out:
            raise ValueError(
                f'slim_out=False is impossible with groups={self.groups}: the output of a grouped convolution follows '
                'its input. Use groups=1 or slim_out=True'
            )
        self.slim_out = slim_out
        self.in_segments: tuple[Segment, ...] | None = None
        whole = Segment(self.out_channels) if slim_out else Segment.complete(self.out_channels)
        self.out_segments: tuple[Segment, ...] = (whole,)

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set the segments of the input, after a concatenation say, and of the output.

        Args:
            inputs: Segments that make up ``in_channels``.
            outputs: Segments that make up ``out_channels``; without effect if ``slim_out`` is False.

        Raises:
            ValueError: If they do not add up, or for a grouped convolution.
        """
        if self.groups > 1:
            raise ValueError(f'{self} keeps whole groups, so it cannot have segments: divide the layer before it')
        if inputs is not None:
            self.in_segments = check_segments(inputs, self.in_channels, f'the input of {self}')
        if outputs is not None and self.slim_out:
            self.out_segments = check_segments(outputs, self.out_channels, f'the output of {self}')

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the active part of the weight.

        Args:
            x: (N, C, H, W) or (C, H, W) with C ``in_channels`` or those of them that are active at the width.

        Returns:
            (N, K, H', W') or (K, H', W') with K the active output channels.

        Raises:
            ValueError: For another C; a grouped convolution accepts any whole groups.
        """
        channels_in = channel_count(x, -3)
        if self.groups == 1 or channels_in > self.in_channels:
            check_input(self, channels_in, self.in_channels, self.in_segments)
        groups = self._active_groups(channels_in)
        weight, bias = self._active_outputs(groups)
        if channels_in != self.in_channels and self.groups == 1:
            weight = take(weight, self.in_segments or (Segment(self.in_channels),), self.width, dim=1)
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return self._convolve(x, weight, bias, padding, groups)

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int | tuple[int, ...], groups: int
    ) -> Tensor:
        """Convolve with what is active."""
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a given full weight, as others who fuse this layer with a norm do."""
        if self.width != 1.0:
            raise ValueError(
                f'efficient_conv_bn_eval fuses all channels of {self} with its norm, so it works at width 1.0 only, '
                f'but the width is {self.width:g}. Leave efficient_conv_bn_eval out'
            )
        return super()._conv_forward(x, weight, bias)

    def _active_groups(self, channels_in: int) -> int:
        """Groups of an input of ``channels_in`` channels."""
        if self.groups == 1:
            return 1
        groups, rest = divmod(channels_in, self.in_channels // self.groups)
        if rest:
            raise ValueError(
                f'the input has {channels_in} channels, which are no whole groups of {self.in_channels // self.groups} '
                f'channels, as {self} needs at width {self.width}'
            )
        return groups

    def _active_outputs(self, groups: int) -> tuple[Tensor, Tensor | None]:
        """The part of weight and bias for the active outputs."""
        if groups != self.groups:
            channels = groups * (self.out_channels // self.groups)
            return self.weight[:channels], None if self.bias is None else self.bias[:channels]
        if groups > 1:
            return self.weight, self.bias
        bias = None if self.bias is None else take(self.bias, self.out_segments, self.width)
        return take(self.weight, self.out_segments, self.width), bias

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
