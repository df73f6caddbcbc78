"""Slimmable convolution (Slimmable Neural Networks, arXiv 1812.08928; github taoyang1122/MutualNet)."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .channels import active_channels
from .width import Slimmable


@MODELS.register_module()
class SlimConv2d(Slimmable, nn.Conv2d):
    """A convolution that can run on the first of its channels.

    The active input channels are those of the input tensor; the active output channels follow the width. A grouped
    convolution keeps whole groups with their channels per group fixed, so its output follows its input; depthwise is
    the case of one channel per group.

    Args:
        *args: As ``nn.Conv2d``.
        slim_out: Whether the output slims. If False, all output channels are always computed.
        **kwargs: As ``nn.Conv2d``.

    Example:
        >>> conv = SlimConv2d(64, 128, 3)
        >>> mmmutual.set_width(conv, 0.5)
        >>> conv(torch.rand(1, 32, 8, 8)).shape
        torch.Size([1, 64, 6, 6])
    """

    def __init__(self, *args, slim_out: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.groups > 1 and not slim_out:
            raise ValueError(
                f'slim_out=False is impossible with groups={self.groups}: the output of a grouped convolution follows '
                'its input. Use groups=1 or slim_out=True'
            )
        self.slim_out = slim_out

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the active part of the weight.

        Args:
            x: (N, C, H, W) with C at most ``in_channels``.

        Returns:
            (N, K, H', W') with K the active output channels.

        Raises:
            ValueError: If C is more than ``in_channels``, or does not make whole groups.
        """
        channels_in = x.size(1)
        channels_out, groups = self._active_out(channels_in)
        weight, bias = self.weight, self.bias
        if channels_out != self.out_channels or channels_in != self.in_channels:
            weight = weight[:channels_out, : channels_in // groups]
            bias = None if bias is None else bias[:channels_out]
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)

    def _active_out(self, channels_in: int) -> tuple[int, int]:
        """Active output channels and groups for an input of ``channels_in`` channels."""
        if channels_in > self.in_channels:
            raise ValueError(f'the input has {channels_in} channels, but {self} takes at most {self.in_channels}')
        if self.groups == 1:
            return (active_channels(self.out_channels, self.width) if self.slim_out else self.out_channels), 1
        groups, rest = divmod(channels_in, self.in_channels // self.groups)
        if rest:
            raise ValueError(
                f'the input has {channels_in} channels, which are no whole groups of {self.in_channels // self.groups} '
                f'channels, as {self} needs at width {self.width}'
            )
        return groups * (self.out_channels // self.groups), groups

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
