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
from typing import TypeAlias

from mmdet.models.backbones import MobileNetV2, SwinTransformer
from mmdet.models.backbones.pvt import AbsolutePositionEmbedding
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from mmdet.models.detectors import DINO
from mmdet.models.layers import CdnQueryGenerator, DinoTransformerDecoder, InvertedResidual
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import nn

from mmmutual.layers.channels import DIVISOR

from .blocks import (
    CountingPositionEmbedding,
    CountingQueryGenerator,
    CountingSwin,
    SlimBottle2neck,
    SlimmableGenericRoIExtractor,
    SlimmableSingleRoIExtractor,
)
from .dino_decoder import SlimDinoDecoder

Counted: TypeAlias = nn.Module | nn.Parameter


@dataclass(frozen=True)
class BlockRule:
    """How a block slims, as far as its layers and operations do not say it.

    Attributes:
        multiples: Layers whose active outputs are a multiple of another number than 8.
        kept: Layers with full outputs.
        counterpart: The class that the block gets where it slims, since it counts channels itself.
        pieces: Layers whose outputs are equal pieces that slim alike, with their number. In a grouped one, a part
            of each group is active.
        counts: Attributes that count the channels behind a layer, or those of a parameter, in equal pieces; of a list
            of numbers, a layer for each.
        behind: A layer whose output the counterpart computes with, besides counting: narrow networks that are
            simulated need the counterpart as well.
        alike: Parameters that only a training uses, with the layers or parameters whose channels they have.
    """

    multiples: Mapping[nn.Module, int] = field(default_factory=dict)
    kept: Sequence[nn.Module] = ()
    counterpart: type[nn.Module] | None = None
    pieces: Mapping[nn.Module, int] = field(default_factory=dict)
    counts: Mapping[str, Counted | list[Counted | None]] = field(default_factory=dict)
    behind: Counted | None = None
    alike: Mapping[nn.Parameter, Counted] = field(default_factory=dict)

    @property
    def counted(self) -> set[Counted]:
        """The layers and parameters whose channels the block counts."""
        layers = [layer for value in self.counts.values() for layer in (value if isinstance(value, list) else [value])]
        return {layer for layer in [*layers, self.behind] if layer is not None}


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
        The rules; a subclass of a block that counts channels has none, since it may count them elsewhere too, unless
        it is derived from the counterpart.
    """
    if 'mmpretrain.models' in sys.modules:  # it is optional and takes seconds to import
        import_module('.rules_mmpretrain', __package__)
    found = {}
    for block in model.modules():
        kind = next((kind for kind in type(block).__mro__ if kind in RULES), None)
        if kind is not None:
            rule = RULES[kind](block)
            if rule.counterpart is None or type(block) is kind or isinstance(block, rule.counterpart):
                found[block] = rule
    return found


def own_parameter(module: nn.Module, name: str) -> nn.Parameter:
    """A parameter with all channels, also of a module in which it slims."""
    return dict(module.named_parameters(recurse=False))[name]


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


@block_rule(SwinTransformer)
def swin(net: SwinTransformer) -> BlockRule:
    """It counts the channels of its outputs."""
    norms = [getattr(net, f'norm{stage}', None) for stage in range(len(net.num_features))]
    return BlockRule(counterpart=CountingSwin, counts={'num_features': norms})


@block_rule(DinoTransformerDecoder)
def dino_decoder(decoder: DinoTransformerDecoder) -> BlockRule:
    """It encodes boxes in a number of channels that it counts in its queries."""
    return BlockRule(counterpart=SlimDinoDecoder, behind=decoder.norm)


@block_rule(DINO)
def dino(detector: DINO) -> BlockRule:
    """The queries that denoise labels have the channels of the others."""
    if not isinstance(detector.query_embedding, nn.Embedding):
        return BlockRule()
    labels, queries = detector.dn_query_generator.label_embedding, detector.query_embedding
    return BlockRule(alike={own_parameter(labels, 'weight'): own_parameter(queries, 'weight')})


@block_rule(CdnQueryGenerator)
def query_generator(generator: CdnQueryGenerator) -> BlockRule:
    """It counts the channels of its label embedding."""
    labels = own_parameter(generator.label_embedding, 'weight')
    return BlockRule(counterpart=CountingQueryGenerator, counts={'embed_dims': labels})


@block_rule(AbsolutePositionEmbedding)
def position_embedding(block: AbsolutePositionEmbedding) -> BlockRule:
    """It counts the channels of its parameter."""
    return BlockRule(counterpart=CountingPositionEmbedding, counts={'pos_dim': own_parameter(block, 'pos_embed')})


@block_rule(SingleRoIExtractor)
def single_roi_extractor(extractor: SingleRoIExtractor) -> BlockRule:
    """It counts on ``out_channels`` channels in its features."""
    return BlockRule(counterpart=SlimmableSingleRoIExtractor)


@block_rule(GenericRoIExtractor)
def generic_roi_extractor(extractor: GenericRoIExtractor) -> BlockRule:
    """It counts on ``out_channels`` channels in its features."""
    return BlockRule(counterpart=SlimmableGenericRoIExtractor)
