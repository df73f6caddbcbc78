"""How the channels divide inside mmdet's and mmpretrain's blocks that concatenate, split or group them.

A layer sees a tensor, not where it comes from. So the layers around a concatenation, a split or a grouped convolution
are told the segments of their channels, by a rule for each such block.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmdet.models.backbones.csp_darknet import SPPBottleneck
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from mmdet.models.backbones.resnext import Bottleneck as ResNeXtBottleneck
from mmdet.models.layers import CSPLayer, InvertedResidual
from torch import nn

from mmmutual.layers import Segment, SlimBatchNorm2d, SlimConv2d
from mmmutual.layers.channels import DIVISOR


def lay_out(model: nn.Module) -> None:
    """Tell the slimmable layers inside such blocks the segments of their channels, in place.

    Layers that are not slimmable stay as they are, so a stock model does not change.

    Args:
        model: A model whose layers are slimmable.

    Raises:
        ValueError: For a block that cannot slim.
    """
    rules = {**RULES, **of_mmpretrain('RULES')}
    for name, module in model.named_modules():
        for kind, rule in rules.items():
            if isinstance(module, kind):
                rule(module, name)


def of_mmpretrain(table: str) -> dict[type[nn.Module], Any]:
    """A table of :mod:`.mmpretrain_blocks`; empty unless mmpretrain, which takes seconds to import, is in use."""
    if 'mmpretrain.models' not in sys.modules:
        return {}
    return getattr(import_module('.mmpretrain_blocks', __package__), table)


def split_attention(block: SplitAttentionConv2d, name: str) -> None:
    """Its radix lies across the groups, so the first groups are no narrower block."""
    if any(isinstance(layer, SlimConv2d) for layer in block.modules()):
        raise ValueError(f'{name} (SplitAttentionConv2d) cannot slim: choose ResNet, ResNetV1d or ResNeXt for ResNeSt')


def _csp_layer(block: CSPLayer, name: str) -> None:
    """The main and the short branch are concatenated."""
    both = (Segment(block.main_conv.out_channels), Segment(block.short_conv.out_channels))
    divide(block.final_conv.conv, inputs=both)
    if block.channel_attention:
        divide(block.attention.fc, inputs=both, outputs=both)


def _spp(block: SPPBottleneck, name: str) -> None:
    """Poolings of different sizes are concatenated."""
    divide(block.conv2.conv, inputs=(Segment(block.conv1.out_channels),) * (len(block.poolings) + 1))


def resnext(block: ResNeXtBottleneck, name: str) -> None:
    """The first convolution feeds whole groups, and these the last one."""
    groups = getattr(block.conv2, 'groups', 1)
    if groups > 1:
        channels = block.conv1.out_channels
        inside = (Segment(channels, math.lcm(DIVISOR, channels // groups)),)
        divide(block.conv1, outputs=inside)
        divide(block.conv3, inputs=inside)


def res2net(block: Bottle2neck, name: str) -> None:
    """The channels are split into pieces, which are concatenated again; see ``SlimBottle2neck`` for the split."""
    pieces = (Segment(block.convs[0].in_channels),) * block.scales
    divide_with_norm(block.conv1, block.norm1, pieces, f'{name} (Bottle2neck)')
    divide(block.conv3, inputs=pieces)


def _inverted_residual(block: InvertedResidual, name: str) -> None:
    """The inside is a multiple of the active input channels, as in the authors' MobileNetV2."""
    if not block.with_expand_conv:
        return
    inside = expanded(block.expand_conv.conv)
    divide(block.expand_conv.conv, outputs=inside)
    divide(block.linear_conv.conv, inputs=inside)
    if block.with_se:
        divide(block.se.conv1.conv, inputs=inside)
        divide(block.se.conv2.conv, outputs=inside)


def expanded(conv: nn.Conv2d) -> tuple[Segment]:
    """What a convolution gives that multiplies the channels: the same multiple of the active ones, if it is whole."""
    factor, rest = divmod(conv.out_channels, conv.in_channels)
    return (Segment(conv.out_channels, DIVISOR if rest else DIVISOR * factor),)


RULES: dict[type[nn.Module], Callable[[nn.Module, str], None]] = {
    SplitAttentionConv2d: split_attention,
    CSPLayer: _csp_layer,
    SPPBottleneck: _spp,
    ResNeXtBottleneck: resnext,
    Bottle2neck: res2net,
    InvertedResidual: _inverted_residual,
}


def divide(conv: nn.Module, **segments: tuple[Segment, ...]) -> None:
    """Tell a convolution its segments if it is slimmable."""
    if isinstance(conv, SlimConv2d):
        conv.divide(**segments)


def divide_with_norm(conv: nn.Module, norm: nn.Module, outputs: tuple[Segment, ...], owner: str) -> None:
    """Tell a convolution and the norm behind it the segments of its output; a batch norm alone can have some."""
    divide(conv, outputs=outputs)
    if isinstance(norm, SlimBatchNorm2d):
        norm.divide(outputs)
    elif isinstance(conv, SlimConv2d):
        raise ValueError(
            f'{owner} slims with batch norms only, but has {type(norm).__name__}: choose norm_cfg BN or SyncBN'
        )
