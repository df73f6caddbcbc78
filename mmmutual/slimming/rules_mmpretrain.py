"""Rules for mmpretrain's blocks that count channels themselves."""

from __future__ import annotations

from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from mmpretrain.models.backbones.res2net import Bottle2neck
from mmpretrain.models.backbones.resnest import SplitAttentionConv2d

from .blocks import SplitsActiveChannels
from .rules import BlockRule, block_rule, expansion


class SlimBottle2neck(SplitsActiveChannels, Bottle2neck):
    """mmpretrain's Res2Net block, which splits the active channels."""


@block_rule(Bottle2neck)
def res2net(block: Bottle2neck) -> BlockRule:
    """It splits its channels into pieces of ``width`` channels."""
    return BlockRule(counterpart=SlimBottle2neck, counts={'width': block.conv1})


@block_rule(InvertedResidual)
def inverted_residual(block: InvertedResidual) -> BlockRule:
    """The inside is a multiple of the active input channels; without an expansion there are two layers."""
    if len(block.conv) < 3:
        return BlockRule()
    conv = block.conv[0].conv
    return BlockRule(multiples={conv: expansion(conv.in_channels, conv.out_channels)})


@block_rule(SplitAttentionConv2d)
def split_attention(block: SplitAttentionConv2d) -> BlockRule:
    """It sums over the pieces of its radix, so they slim alike."""
    return BlockRule(pieces=dict.fromkeys((block.conv, block.fc2), block.radix) if block.groups == 1 else {})
