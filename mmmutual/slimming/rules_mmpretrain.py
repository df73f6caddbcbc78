"""Rules for mmpretrain's blocks that count channels themselves."""

from __future__ import annotations

from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from mmpretrain.models.backbones.res2net import Bottle2neck
from mmpretrain.models.backbones.resnest import SplitAttentionConv2d
from mmpretrain.models.backbones.swin_transformer import SwinTransformer
from mmpretrain.models.backbones.swin_transformer_v2 import SwinBlockV2Sequence

from .blocks import CountsStages, SplitsActiveChannels, active_or
from .rules import BlockRule, block_rule, expansion


class SlimBottle2neck(SplitsActiveChannels, Bottle2neck):
    """mmpretrain's Res2Net block, which splits the active channels."""


class CountingSwin(CountsStages, SwinTransformer):
    """mmpretrain's Swin transformer, which counts active channels."""


@block_rule(SwinTransformer)
def swin(net: SwinTransformer) -> BlockRule:
    """It counts the channels of its outputs."""
    norms = [getattr(net, f'norm{stage}', None) for stage in range(len(net.num_features))]
    return BlockRule(counterpart=CountingSwin, counts={'num_features': norms})


class CountingSwinV2Stage(SwinBlockV2Sequence):
    """A stage of mmpretrain's Swin transformer V2, which counts active channels."""

    @property
    def out_channels(self) -> int:
        """Active channels behind the last norm."""
        return active_or(self.blocks[-1].norm2, self.__dict__['out_channels'])

    @out_channels.setter
    def out_channels(self, channels: int) -> None:
        self.__dict__['out_channels'] = channels

    def narrow_values(self, width: float) -> dict[str, int]:
        """The attributes of the stock stage of a width multiplier, at which the layers are."""
        return {'out_channels': self.out_channels}


@block_rule(SwinBlockV2Sequence)
def swin_v2_stage(stage: SwinBlockV2Sequence) -> BlockRule:
    """It counts the channels of its output."""
    return BlockRule(counterpart=CountingSwinV2Stage, counts={'out_channels': stage.blocks[-1].norm2})


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
