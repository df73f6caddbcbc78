"""How the blocks of stock backbones and necks slim, where their layers do not all slim alike.

A layer that cannot slim, a deformable convolution say, must receive all of its channels: so the layers before it give
all of theirs. And a layer behind a concatenation is told the segments of its input. Each rule states that for one
class; blocks of plain convolutions, as mmdet's ``BasicBlock``, need none.
"""

from __future__ import annotations

from collections.abc import Callable

from mmcv.cnn.bricks import ContextBlock, GeneralizedAttention, NonLocal2d
from mmdet.models.backbones import resnet
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.layers import CSPLayer
from mmdet.models.layers.transformer.utils import ConditionalAttention
from mmdet.models.necks import HRFPN, YOLOXPAFPN, CSPNeXtPAFPN, YOLOV3Neck
from torch import nn

from mmmutual.layers import Segment, can_slim

STOCK, COMPLETE = 'stock', 'complete'  # a part stays as it is; a layer slims, but gives all of its outputs


def bottleneck(block: resnet.Bottleneck) -> dict[str, str]:
    """A convolution that cannot slim takes what ``conv1`` gives; ``conv3`` slims behind it."""
    if can_slim(block.conv2):
        plugins = getattr(block, 'after_conv2_plugin_names', [])
        fixed = [name for name in plugins if not isinstance(getattr(block, name), PLUGINS)]
        if not fixed:
            return {}
        return {'conv2': COMPLETE, **dict.fromkeys(plugins, COMPLETE), **dict.fromkeys(fixed, STOCK)}
    behind = getattr(block, 'after_conv2_plugin_names', [])  # they receive all channels
    return {'conv1': COMPLETE, 'conv2': STOCK, **dict.fromkeys(behind, STOCK)}


def context_block(block: ContextBlock) -> dict[str, str]:
    """The layer norm in the middle has a fixed size; the last convolution gives as many channels as came in."""
    first = [f'{name}.0' for name in ('channel_add_conv', 'channel_mul_conv') if getattr(block, name) is not None]
    return dict.fromkeys([*first, *(['conv_mask'] if block.pooling_type == 'att' else [])], COMPLETE)


def generalized_attention(block: GeneralizedAttention) -> dict[str, str]:
    """The heads are complete; the projection gives as many channels as came in."""
    layers = [name for name, layer in block.named_children() if can_slim(layer)]
    return {name: COMPLETE for name in layers if name != 'proj_conv'}


def non_local(block: NonLocal2d) -> dict[str, str]:
    """It counts on the channels inside; the last convolution gives as many as came in."""
    return {name: COMPLETE for name in ('g', 'theta', 'phi') if hasattr(block, name)}


def conditional_attention(block: ConditionalAttention) -> dict[str, str]:
    """Its heads divide all of the channels."""
    return {name: COMPLETE for name, layer in block.named_children() if can_slim(layer)}


PLUGINS = (ContextBlock, GeneralizedAttention)
RULES: dict[type[nn.Module], Callable[[nn.Module], dict[str, str]]] = {
    resnet.Bottleneck: bottleneck,
    Bottle2neck: lambda block: {},  # a Bottleneck by name, but all of it slims
    ContextBlock: context_block,
    GeneralizedAttention: generalized_attention,
    NonLocal2d: non_local,
    ConditionalAttention: conditional_attention,
}


def outputs_of(model: nn.Module) -> dict[nn.Module, str]:
    """Which parts of a model stay stock and which of its layers give all of their outputs.

    Args:
        model: A stock backbone or detector.

    Returns:
        ``STOCK`` or ``COMPLETE`` for the modules that do not simply slim.
    """
    found: dict[nn.Module, str] = {}
    for block in model.modules():
        rule = next((RULES[kind] for kind in type(block).__mro__ if kind in RULES), None)
        if rule is None or found.get(block) == STOCK:
            continue
        for name, how in rule(block).items():
            part = block.get_submodule(name)
            found.update(dict.fromkeys(part.modules(), how))
    return found


def all_outputs(layer: nn.Module) -> tuple[Segment, ...] | None:
    """The segments of an output that does not slim; None for a norm."""
    channels = getattr(layer, 'out_channels', None) or getattr(layer, 'out_features', None)
    return None if channels is None else (Segment.complete(channels),)


def divide_inputs(neck: nn.Module, complete: bool = True) -> None:
    """Tell the convolutions of a neck that take a concatenation with a backbone's level its segments.

    Args:
        neck: A neck, or one of several, whose convolutions are slimmable.
        complete: Whether the neck's own convolutions give all of their outputs.
    """
    own = Segment.complete if complete else Segment
    if isinstance(neck, YOLOV3Neck):
        for index in range(1, neck.num_scales):
            segments = [own(neck.out_channels[index]), Segment(neck.in_channels[index])]
            getattr(neck, f'detect{index + 1}').conv1.conv.divide(segments)
    elif isinstance(neck, (YOLOXPAFPN, CSPNeXtPAFPN)):
        for block, channels in zip(neck.top_down_blocks, reversed(neck.in_channels[:-1])):
            _divide_csp(block, [own(channels), Segment(channels)])
        for block, channels in zip(neck.bottom_up_blocks, neck.in_channels[:-1]):
            _divide_csp(block, [own(channels)] * 2)
    elif isinstance(neck, HRFPN):
        neck.reduction_conv.conv.divide([Segment(channels) for channels in neck.in_channels])


def _divide_csp(layer: CSPLayer, segments: list[Segment]) -> None:
    for branch in (layer.main_conv, layer.short_conv):
        branch.conv.divide(segments)
