"""How mmpretrain's blocks slim.

mmpretrain is optional and takes seconds to import, so ``layout`` imports this module only where a program uses it.
"""

from __future__ import annotations

import math

from mmpretrain.models.backbones import DenseNet, InceptionV3, ShuffleNetV1, ShuffleNetV2
from mmpretrain.models.backbones.cspnet import CSPNet, CSPStage
from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from mmpretrain.models.backbones.res2net import Bottle2neck
from mmpretrain.models.backbones.resnest import SplitAttentionConv2d
from mmpretrain.models.backbones.resnext import Bottleneck as ResNeXtBottleneck
from mmpretrain.models.backbones.seresnext import SEBottleneck as SEResNeXtBottleneck
from torch import nn

from mmmutual.layers import Segment, SlimConv2d
from mmmutual.layers.channels import DIVISOR

from .backbones.resnet import SplitsActiveChannels
from .layout import divide, divide_with_norm, expanded, res2net, resnext, split_attention


class SlimBottle2neck(SplitsActiveChannels, Bottle2neck):
    """mmpretrain's Res2Net block, which splits the active channels."""


def inverted_residual(block: InvertedResidual, name: str) -> None:
    """The inside is a multiple of the active input channels; without an expansion there are two layers."""
    if len(block.conv) == 3:
        inside = expanded(block.conv[0].conv)
        divide(block.conv[0].conv, outputs=inside)
        divide(block.conv[2].conv, inputs=inside)


def csp_stage(stage: CSPStage, name: str) -> None:
    """The expanded channels are split into halves, which are concatenated again."""
    halves = (Segment(stage.expand_conv.out_channels // 2),) * 2
    divide_with_norm(stage.expand_conv.conv, stage.expand_conv.norm, halves, f'{name} (CSPStage)')
    divide(stage.final_conv.conv, inputs=halves)


def csp_net(net: CSPNet, name: str) -> None:
    """In CSPResNeXt a stage feeds the whole groups of the next one."""
    for stage, following in zip(net.stages, net.stages[1:]):
        groups = getattr(getattr(following.downsample_conv, 'conv', None), 'groups', 1)
        if groups > 1:
            channels = stage.final_conv.out_channels
            divide(stage.final_conv.conv, outputs=(Segment(channels, math.lcm(DIVISOR, channels // groups)),))


def mixes_channels(net: nn.Module, name: str) -> None:
    """Its channels are concatenated, split or shuffled from block to block."""
    if any(isinstance(layer, SlimConv2d) for layer in net.modules()):
        raise ValueError(
            f'{type(net).__name__} cannot slim: its blocks concatenate or shuffle their channels. Choose another '
            'backbone, for example ResNet, RegNet or MobileNetV2'
        )


BLOCKS = {Bottle2neck: SlimBottle2neck}
RULES = {
    Bottle2neck: res2net,
    CSPNet: csp_net,
    CSPStage: csp_stage,
    DenseNet: mixes_channels,
    InceptionV3: mixes_channels,
    InvertedResidual: inverted_residual,
    ResNeXtBottleneck: resnext,
    SEResNeXtBottleneck: resnext,
    ShuffleNetV1: mixes_channels,
    ShuffleNetV2: mixes_channels,
    SplitAttentionConv2d: split_attention,
}
