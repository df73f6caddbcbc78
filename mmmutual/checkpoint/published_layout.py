"""The key layout of published slimmable networks, mapped to mmmutual's backbones.

MutualNet (github taoyang1122/MutualNet) is derived from slimmable_networks (github JiahuiYu/slimmable_networks), so the
models of the two repositories number layers in the same way: ``features.0`` is the stem, ``features.N.body`` and
``features.N.shortcut`` make up block N, and in each of these a norm follows its convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from mmmutual.layers import Segment
from mmmutual.layers.channels import DIVISOR

BEHIND_STEM = ('layer1.0.conv1', 'layer1.0.downsample.0')
PARTS = ('expand_conv', 'depthwise_conv', 'pointwise_conv', 'linear_conv')  # of a MobileNet's block, in their order


class Layer(NamedTuple):
    """A convolution and the norm that follows it.

    Attributes:
        source_conv: Name of the convolution in a published file.
        source_norm: Name of the norm there.
        conv: Name of the convolution in the backbone.
        norm: Name of the norm there.
        lists: Whether the norm in the file has a list with an entry for each width; if not, it is an ordinary norm.
    """

    source_conv: str
    source_norm: str
    conv: str
    norm: str
    lists: bool = True


def published_layers(backbone: nn.Module) -> list[Layer]:
    """All layers of a published network.

    Args:
        backbone: The corresponding backbone of mmmutual: a ResNet with bottlenecks, MobileNetV1 or V2.

    Returns:
        Its layers.
    """
    if hasattr(backbone, 'bn1'):
        return _resnet(backbone)
    layers = [_layer('features.0', 0, 'conv1.conv', 'conv1.bn')]
    blocks = _blocks(backbone)
    for number, (name, block) in enumerate(blocks.items(), 1):
        parts = [f'{name}.{part}' for part in PARTS if hasattr(block, part)]
        layers += [_layer(f'features.{number}.body', i, f'{part}.conv', f'{part}.bn') for i, part in enumerate(parts)]
    if hasattr(backbone, 'conv2'):
        layers.append(_layer(f'features.{len(blocks) + 1}', 0, 'conv2.conv', 'conv2.bn')._replace(lists=False))
    return layers


def _resnet(backbone: nn.Module) -> list[Layer]:
    layers = [_layer('features.0', 0, 'conv1', 'bn1')]
    for number, (name, block) in enumerate(_blocks(backbone).items(), 1):
        source = f'features.{number}'
        layers += [_layer(f'{source}.body', i, f'{name}.conv{i + 1}', f'{name}.bn{i + 1}') for i in range(3)]
        if block.downsample is not None:
            layers.append(_layer(f'{source}.shortcut', 0, f'{name}.downsample.0', f'{name}.downsample.1'))
    return layers


def _layer(sequence: str, index: int, conv: str, norm: str) -> Layer:
    """The layer that is number ``index`` of a sequence of convolutions, norms and activations."""
    return Layer(f'{sequence}.{3 * index}', f'{sequence}.{3 * index + 1}', conv, norm)


def _blocks(backbone: nn.Module) -> dict[str, nn.Module]:
    stages = [(name, stage) for name, stage in backbone.named_children() if name.startswith('layer')]
    return {f'{name}.{index}': block for name, stage in stages for index, block in enumerate(stage)}


def round_as_published_(backbone: nn.Module) -> None:
    """Let a ResNet use the numbers of active channels of published ResNets, in place; MobileNets already do.

    The stem and the inside of the bottlenecks of published ResNets have a quarter of a multiple of 8 channels.

    Args:
        backbone: As for ``published_layers``.
    """
    if not hasattr(backbone, 'bn1'):
        return
    quarter = DIVISOR // 4
    for name, layer in backbone.named_modules():
        kind = name.rpartition('.')[2]
        if kind in ('conv1', 'conv2'):
            layer.divide(outputs=[Segment(layer.out_channels, quarter)])
        if kind in ('conv2', 'conv3') or name in BEHIND_STEM:
            layer.divide(inputs=[Segment(layer.in_channels, quarter)])


def channels_at(backbone: nn.Module, layers: Sequence[Layer], width: float) -> dict[str, int]:
    """The active channels of a backbone's norms.

    Args:
        backbone: A slimmable backbone.
        layers: Its layers; a depthwise convolution has the channels of the convolution before it.
        width: Width multiplier in (0, 1].

    Returns:
        The number of channels of each norm.
    """
    channels: dict[str, int] = {}
    active = 0
    for layer in layers:
        conv = backbone.get_submodule(layer.conv)
        if conv.groups == 1:
            active = sum(segment.active(width) for segment in conv.out_segments)
        channels[layer.norm] = active
    return channels
