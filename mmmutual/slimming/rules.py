"""One registry of rules for blocks that count channels themselves, which no run of the model shows.

A rule is a function of a block, registered for its class::

    @block_rule(MyBlock)
    def my_block(block: MyBlock) -> BlockRule:
        return BlockRule(multiples={block.expand: 48})

Blocks that only call layers and operations of torch need none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from mmdet.models.backbones import MobileNetV2
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from mmdet.models.layers import InvertedResidual
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import nn

from mmmutual.layers.channels import DIVISOR

from .blocks import SlimBottle2neck, SlimmableGenericRoIExtractor, SlimmableSingleRoIExtractor


@dataclass(frozen=True)
class BlockRule:
    """How a block slims, as far as its layers and operations do not say it.

    Attributes:
        multiples: Layers whose active outputs are a multiple of another number than 8.
        kept: Layers with full outputs.
        counterpart: The class that the block gets where it slims, since it counts channels itself.
        pieces: Layers whose outputs are equal pieces that slim alike, with their number. In a grouped one, a part
            of each group is active.
        counts: Attributes that count the outputs of a layer, which are that layer's in equal pieces.
    """

    multiples: Mapping[nn.Module, int] = field(default_factory=dict)
    kept: Sequence[nn.Module] = ()
    counterpart: type[nn.Module] | None = None
    pieces: Mapping[nn.Module, int] = field(default_factory=dict)
    counts: Mapping[str, nn.Module] = field(default_factory=dict)


Rule = Callable[[nn.Module], BlockRule]
RULES: dict[type[nn.Module], Rule] = {}


def block_rule(*kinds: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Register a rule for classes of blocks; it holds for their subclasses too, unless it has a counterpart.

    Args:
        *kinds: The classes.

    Returns:
        A decorator.
    """

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def rules_of(model: nn.Module) -> dict[nn.Module, BlockRule]:
    """The rules of the blocks of a model, as far as they have one.

    Args:
        model: A stock model.

    Returns:
        The rules; a subclass of a block that counts channels has none, since it may count them elsewhere too.
    """
    if 'mmpretrain.models' in sys.modules:  # it is optional and takes seconds to import
        import_module('.rules_mmpretrain', __package__)
    found = {}
    for block in model.modules():
        kind = next((kind for kind in type(block).__mro__ if kind in RULES), None)
        if kind is not None:
            rule = RULES[kind](block)
            if rule.counterpart is None or type(block) in (kind, rule.counterpart):
                found[block] = rule
    return found


def expansion(inputs: int, outputs: int) -> int:
    """The divisor for the inside of an inverted residual: 8 times the expansion if that is a whole number, else 8."""
    factor, rest = divmod(outputs, inputs)
    return DIVISOR if rest else DIVISOR * factor


@block_rule(Bottle2neck)
def res2net(block: Bottle2neck) -> BlockRule:
    """It splits its channels into pieces of ``width`` channels."""
    return BlockRule(counterpart=SlimBottle2neck, counts={'width': block.conv1})


@block_rule(InvertedResidual)
def inverted_residual(block: InvertedResidual) -> BlockRule:
    """The inside is a multiple of the active input channels, as in the authors' MobileNetV2."""
    if not block.with_expand_conv:
        return BlockRule()
    conv = block.expand_conv.conv
    return BlockRule(multiples={conv: expansion(conv.in_channels, conv.out_channels)})


@block_rule(MobileNetV2)
def mobilenet_v2(net: MobileNetV2) -> BlockRule:
    """The last convolution has all of its outputs at every width, as in the authors' code."""
    return BlockRule(kept=(net.conv2.conv,))


@block_rule(SplitAttentionConv2d)
def split_attention(block: SplitAttentionConv2d) -> BlockRule:
    """It sums over the pieces of its radix, so they slim alike."""
    return BlockRule(pieces=dict.fromkeys((block.conv, block.fc2), block.radix) if block.groups == 1 else {})


@block_rule(SingleRoIExtractor)
def single_roi_extractor(extractor: SingleRoIExtractor) -> BlockRule:
    """It counts on ``out_channels`` channels in its features."""
    return BlockRule(counterpart=SlimmableSingleRoIExtractor)


@block_rule(GenericRoIExtractor)
def generic_roi_extractor(extractor: GenericRoIExtractor) -> BlockRule:
    """It counts on ``out_channels`` channels in its features."""
    return BlockRule(counterpart=SlimmableGenericRoIExtractor)
