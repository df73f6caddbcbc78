"""Slimmable layers as MutualNet's authors wrote them, rewritten as a reference for speed.

Every layer stores its width, computes its channels from it at each call and slices its weight. A norm consists of one
full norm for each width (arXiv 1909.12978 and its code for classification). Not part of the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmmutual.layers import active_channels


class PerLayerConv2d(nn.Conv2d):
    """A convolution that computes its input and output channels at each call."""

    width = 1.0
    slim_in = slim_out = True

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the first channels."""
        inputs = active_channels(self.in_channels, self.width) if self.slim_in else self.in_channels
        outputs = active_channels(self.out_channels, self.width) if self.slim_out else self.out_channels
        weight = self.weight[:outputs, :inputs]
        bias = None if self.bias is None else self.bias[:outputs]
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)


class PerLayerBatchNorm2d(nn.BatchNorm2d):
    """A batch norm with shared affine parameters and a norm without any for each width."""

    width = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of the width."""
        norm = self.of_width[f'{self.width:g}'.replace('.', '_')]
        channels = active_channels(self.num_features, self.width)
        weight, bias = self.weight[:channels], self.bias[:channels]
        mean, var = norm.running_mean[:channels], norm.running_var[:channels]
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)


def use_per_layer_widths_(detector: nn.Module, widths: Sequence[float]) -> None:
    """Change the layers of a stock detector's backbone and the inputs of its neck, in place."""
    stem = detector.backbone.conv1
    laterals = [lateral.conv for lateral in detector.neck.lateral_convs]
    for layer in (*detector.backbone.modules(), *laterals):
        if type(layer) is nn.Conv2d:
            layer.__class__ = PerLayerConv2d
            layer.slim_in, layer.slim_out = layer is not stem, layer not in laterals
        elif type(layer) is nn.BatchNorm2d:
            layer.__class__ = PerLayerBatchNorm2d
            layer.of_width = nn.ModuleDict(
                {f'{width:g}'.replace('.', '_'): nn.BatchNorm2d(layer.num_features, affine=False) for width in widths}
            )


def set_per_layer_width(detector: nn.Module, width: float) -> None:
    """Set the width of every layer."""
    for layer in detector.modules():
        if isinstance(layer, (PerLayerConv2d, PerLayerBatchNorm2d)):
            layer.width = width
