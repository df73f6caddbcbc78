"""The number of channels of a model's images: 3 for colours, 1 for grey."""

from __future__ import annotations

from mmdet.models.backbones.csp_darknet import Focus
from torch import nn

COLOR = 3


def input_channels(model: nn.Module) -> int:
    """The channels of a model's images, as its first convolution has them.

    Args:
        model: A detector, a classifier or a backbone, slimmable or not.

    Returns:
        Their number; 3 for a model without a convolution.
    """
    for layer in getattr(model, 'backbone', model).modules():
        if isinstance(layer, Focus):  # it puts four pixels above each other
            return layer.conv.conv.in_channels // 4
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    return COLOR
