"""Slimmable convolution (Slimmable Neural Networks, arXiv 1812.08928; github taoyang1122/MutualNet)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.upstream import AnyConv, border_padding

from .divided import DividedLayer
from .forward import slimmable_forward
from .frozen import operands_of

Pair = int | tuple[int, int]


@MODELS.register_module()
class SlimConv2d(DividedLayer, nn.Conv2d, AnyConv):
    """A convolution that can run on the first of its channels.

    The active input channels are those of the input tensor; the active output channels follow the width. A grouped
    convolution keeps whole groups with their channels per group fixed, so its output follows its input; depthwise is
    the case of one channel per group. If its segments are alike in each group, all groups stay.

    Where the input is a concatenation, or the output is split or feeds a grouped convolution, ``divide`` sets the
    segments.

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

    Examples:
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
        self.set_up(slim_out)

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the active part of the weight.

        Args:
            x: (N, C, H, W) or (C, H, W) with C ``in_channels`` or those of them that are active at the width.

        Returns:
            (N, K, H', W') or (K, H', W') with K the active output channels.

        Raises:
            ValueError: For another C; a grouped convolution without segments accepts any whole groups.
        """
        weight, bias, groups = operands_of(self, x.shape[-3])
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, border_padding(self), mode=self.padding_mode)
            padding = 0
        return self._convolve(x, weight, bias, padding, groups)

    def active_operands(self, key: int) -> tuple[Tensor, Tensor | None, int]:
        """The active weight and bias, and the number of active groups."""
        return (*super().active_operands(key), self.active_groups(key))

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int | tuple[int, ...], groups: int
    ) -> Tensor:
        """Convolve with what is active."""
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)

    # mmcv's efficient_conv_bn_eval calls it instead of forward
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a given full weight, as others who fuse this layer with a norm do."""
        if self.width != 1.0:
            raise ValueError(
                f'efficient_conv_bn_eval fuses all channels of {self} with its norm, so it works at width 1.0 only, '
                f'but the width is {self.width:g}. Leave efficient_conv_bn_eval out'
            )
        return super()._conv_forward(x, weight, bias)
