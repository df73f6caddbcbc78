"""Slimmable transposed convolution."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .segments import Segment, check_segments
from .width import Slimmable


@MODELS.register_module()
class SlimConvTranspose2d(Slimmable, nn.ConvTranspose2d):
    """A transposed convolution that can run on the first of its channels.

    The active input channels are those of the input tensor; the active output channels follow the width. Its weight is
    (in, out, height, width): the other way round than a convolution's.

    Args:
        *args: As ``nn.ConvTranspose2d``, without groups.
        slim_out: Whether the output slims. If False, all output channels are always computed.
        **kwargs: As ``nn.ConvTranspose2d``.

    Raises:
        ValueError: For more than one group.

    Example:
        >>> upsample = SlimConvTranspose2d(64, 32, 2, stride=2)
        >>> mmmutual.set_width(upsample, 0.5)
        >>> upsample(torch.rand(1, 32, 7, 7)).shape
        torch.Size([1, 16, 14, 14])
    """

    def __init__(self, *args, slim_out: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.groups > 1:
            raise ValueError(f'a transposed convolution slims with groups=1 only, but got groups={self.groups}')
        self.slim_out = slim_out
        whole = Segment(self.out_channels) if slim_out else Segment.complete(self.out_channels)
        self.out_segments: tuple[Segment, ...] = (whole,)

    def divide(self, outputs: tuple[Segment]) -> None:
        """Set of what the active outputs are a multiple; without effect if ``slim_out`` is False.

        Args:
            outputs: One segment of ``out_channels``.

        Raises:
            ValueError: If it has another number of channels.
        """
        if self.slim_out:
            self.out_segments = check_segments(outputs, self.out_channels, f'the output of {self}')

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve with the active part of the weight.

        Args:
            x: (N, C, H, W) with C at most ``in_channels``.
            output_size: As ``nn.ConvTranspose2d``.

        Returns:
            (N, K, H', W') with K the active output channels.

        Raises:
            ValueError: If C is more than ``in_channels``.
        """
        channels_in = x.size(1)
        if channels_in > self.in_channels:
            raise ValueError(f'the input has {channels_in} channels, but {self} takes at most {self.in_channels}')
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
