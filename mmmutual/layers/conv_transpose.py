"""Slimmable transposed convolution."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.upstream import output_padding

from .conv import Pair
from .divided import DividedLayer
from .forward import slimmable_forward
from .frozen import operands_of


@MODELS.register_module()
class SlimConvTranspose2d(DividedLayer, nn.ConvTranspose2d):
    """A transposed convolution that can run on the first of its channels.

    The active input channels are those of the input tensor; the active output channels follow the width. Its weight is
    (in, out, height, width): the other way round than a convolution's.

    Args:
        in_channels: Input channels at full width.
        out_channels: Output channels at full width.
        kernel_size: As ``nn.ConvTranspose2d``, as are all arguments but the last.
        stride: As ``nn.ConvTranspose2d``.
        padding: As ``nn.ConvTranspose2d``.
        output_padding: As ``nn.ConvTranspose2d``.
        groups: 1.
        bias: As ``nn.ConvTranspose2d``.
        dilation: As ``nn.ConvTranspose2d``.
        padding_mode: As ``nn.ConvTranspose2d``.
        device: As ``nn.ConvTranspose2d``.
        dtype: As ``nn.ConvTranspose2d``.
        slim_out: Whether the output slims. If False, all output channels are always computed.

    Raises:
        ValueError: For more than one group.

    Examples:
        >>> upsample = SlimConvTranspose2d(64, 32, 2, stride=2)
        >>> mmmutual.set_width(upsample, 0.5)
        >>> upsample(torch.rand(1, 32, 7, 7)).shape
        torch.Size([1, 16, 14, 14])
    """

    sides: ClassVar = {'weight': 'io', 'bias': 'o'}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = 'zeros',
        device: Any = None,
        dtype: Any = None,
        *,
        slim_out: bool = True,
    ) -> None:
        options = (stride, padding, output_padding, groups, bias, dilation, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel_size, *options)
        if self.groups > 1:
            raise ValueError(f'a transposed convolution slims with groups=1 only, but got groups={self.groups}')
        self.set_up(slim_out)

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether it has one group."""
        return layer.groups == 1

    @slimmable_forward
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve with the active part of the weight.

        Args:
            x: (N, C, H, W) or (C, H, W) with C ``in_channels`` or those of them that are active at the width.
            output_size: As ``nn.ConvTranspose2d``.

        Returns:
            (N, K, H', W') or (K, H', W') with K the active output channels.

        Raises:
            ValueError: For another C.
        """
        weight, bias = operands_of(self, x.shape[-3])
        padding = output_padding(self, x, output_size)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding, padding, self.groups, self.dilation)
