"""Slimmable convolution with weight standardisation (arXiv 1903.10520)."""

from __future__ import annotations

from typing import Any

from mmcv.cnn.bricks.conv_ws import conv_ws_2d
from mmengine.registry import MODELS
from torch import Tensor, nn

from .conv import SlimConv2d


@MODELS.register_module('SlimConvWS')
class SlimConvWS2d(SlimConv2d, nn.Conv2d):  # MMEngine initialises by the names of direct bases
    """A slimmable convolution that standardises its active weights, for each output over the active inputs.

    Args:
        *args: As ``SlimConv2d``.
        eps: Added to the standard deviation.
        **kwargs: As ``SlimConv2d``.
    """

    def __init__(self, *args: Any, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int | tuple[int, ...], groups: int
    ) -> Tensor:
        return conv_ws_2d(x, weight.contiguous(), bias, self.stride, padding, self.dilation, groups, self.eps)
