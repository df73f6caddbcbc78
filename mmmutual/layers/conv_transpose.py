"""Slimmable transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .conv import Pair
from .forward import slimmable_forward
from .inputs import channel_count, check_input
from .segments import Segment, check_segments
from .width import Slimmable


@MODELS.register_module()
class SlimConvTranspose2d(Slimmable, nn.ConvTranspose2d):
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

    Example:
        >>> upsample = SlimConvTranspose2d(64, 32, 2, stride=2)
        >>> mmmutual.set_width(upsample, 0.5)
        >>> upsample(torch.rand(1, 32, 7, 7)).shape
        torch.Size([1, 16, 14, 14])
    """

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
        self.slim_out = slim_out
        self.in_segments: tuple[Segment, ...] | None = None
        whole = Segment(self.out_channels) if slim_out else Segment.complete(self.out_channels)
        self.out_segments: tuple[Segment, ...] = (whole,)

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set of what the active inputs and outputs are a multiple.

        Args:
            inputs: One segment of ``in_channels``.
            outputs: One segment of ``out_channels``; without effect if ``slim_out`` is False.

        Raises:
            ValueError: If it has another number of channels.
        """
        if inputs is not None:
            self.in_segments = check_segments(inputs, self.in_channels, f'the input of {self}')
        if outputs is not None and self.slim_out:
            self.out_segments = check_segments(outputs, self.out_channels, f'the output of {self}')

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
        channels_in = channel_count(x, -3)
        check_input(self, channels_in, self.in_channels, self.in_segments)
        channels_out = sum(segment.active(self.width) for segment in self.out_segments)
        weight, bias = self.weight, self.bias
        if channels_in != self.in_channels or channels_out != self.out_channels:
            weight = weight[:channels_in, :channels_out]
            bias = None if bias is None else bias[:channels_out]
        padding = self._output_padding(x, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding, padding, self.groups, self.dilation)

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
