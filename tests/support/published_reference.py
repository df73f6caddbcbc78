"""The networks of MutualNet and slimmable_networks, written again: their weights under their names, and their forward.

The module states the layers with their channels, strides and paddings, the numbers of active channels at a width, and
the tensors of each norm. It does not use mmmutual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RESNET = [(256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)]  # outputs, blocks, first stride
MOBILENET_V1 = [(64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2)]
MOBILENET_V2 = [  # expansion, outputs, blocks, first stride
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
]  # fmt: skip
FEATURES = {'resnet50': 2048, 'mobilenet_v1': 1024, 'mobilenet_v2': 1280}


def divisible(value: float) -> int:
    """A multiple of 8 near a number, not below 90 % of it."""
    result = max(1, int(value + 4) // 8 * 8)
    return result + 8 if result < 0.9 * value else result


@dataclass
class Conv:
    """A convolution with its norm: number ``index`` and ``index + 1`` of a sequence."""

    name: str
    norm: str
    inputs: tuple[int, float]  # channels, and the ratio that they are of what is rounded
    outputs: tuple[int, float]
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    activation: str | None = 'relu6'


class PublishedReference:
    """One of the networks with random weights and statistics.

    Args:
        kind: A key of ``FEATURES``.
        lists: Widths of the norms' lists, in the file's order.
        switchable: Whether affine parameters are each width's own.
        classes: Outputs of the classifier.
    """

    def __init__(self, kind: str, lists: tuple[float, ...], switchable: bool = False, classes: int = 7) -> None:
        self.kind, self.lists, self.switchable = kind, lists, switchable
        self.state: dict[str, Tensor] = {}
        self.blocks: list[tuple[list[Conv], list[Conv] | None, bool]] = []  # body, shortcut, adds its input
        getattr(self, f'_{kind}')()
        self.state['classifier.0.weight'] = torch.randn(classes, FEATURES[kind]) * 0.02
        self.state['classifier.0.bias'] = torch.randn(classes)

    def active(self, channels: tuple[int, float], width: float) -> int:
        number, ratio = channels
        if number == 3 or ratio == 0:  # images; what all widths give in full
            return number
        if self.switchable and self.kind == 'resnet50':
            return int(number * width)
        return int(divisible(number * width / ratio) * ratio)

    def _add(self, sequence: str, index: int, inputs, outputs, **options) -> Conv:
        conv = Conv(f'{sequence}.{index}', f'{sequence}.{index + 1}', inputs, outputs, **options)
        fan_in = (1 if conv.depthwise else inputs[0]) * conv.kernel**2
        shape = (outputs[0], 1 if conv.depthwise else inputs[0], conv.kernel, conv.kernel)
        self.state[f'{conv.name}.weight'] = torch.randn(shape) * (2 / fan_in) ** 0.5
        plain = outputs[1] == 0
        if plain or not self.switchable:
            self._affine(conv.norm, outputs[0])
        if plain:
            self._statistics(conv.norm, outputs[0])
        for position, width in enumerate(() if plain else self.lists):
            size = self.active(outputs, width)
            if self.switchable:
                self._affine(f'{conv.norm}.bn.{position}', size)
            self._statistics(f'{conv.norm}.bn.{position}', size)
        return conv

    def _affine(self, name: str, size: int) -> None:
        self.state[f'{name}.weight'] = torch.rand(size) + 0.5
        self.state[f'{name}.bias'] = torch.randn(size) * 0.1

    def _statistics(self, name: str, size: int) -> None:
        self.state[f'{name}.running_mean'] = torch.randn(size) * 0.1
        self.state[f'{name}.running_var'] = torch.rand(size) + 0.5
        self.state[f'{name}.num_batches_tracked'] = torch.tensor(0)

    def _resnet50(self) -> None:
        inside = 0.25
        stem = self._add('features.0', 0, (3, 1), (64, inside), kernel=7, stride=2, activation='relu')
        self.blocks.append(([stem], None, False))
        channels, number = (64, inside), 0
        for outputs, blocks, first in RESNET:
            for block in range(blocks):
                number += 1
                stride = first if block == 0 else 1
                name, middle = f'features.{number}', (outputs // 4, inside)
                body = [
                    self._add(f'{name}.body', 0, channels, middle, activation='relu'),
                    self._add(f'{name}.body', 3, middle, middle, kernel=3, stride=stride, activation='relu'),
                    self._add(f'{name}.body', 6, middle, (outputs, 1), activation=None),
                ]
                shortcut = None
                if block == 0:
                    options = dict(stride=stride, activation=None)
                    shortcut = [self._add(f'{name}.shortcut', 0, channels, (outputs, 1), **options)]
                self.blocks.append((body, shortcut, True))
                channels = (outputs, 1)

    def _mobilenet_v1(self) -> None:
        self.blocks.append(([self._add('features.0', 0, (3, 1), (32, 1), kernel=3, stride=2)], None, False))
        channels, number = (32, 1), 0
        for outputs, blocks, first in MOBILENET_V1:
            for block in range(blocks):
                number += 1
                options = dict(kernel=3, stride=first if block == 0 else 1, depthwise=True)
                body = [
                    self._add(f'features.{number}.body', 0, channels, channels, **options),
                    self._add(f'features.{number}.body', 3, channels, (outputs, 1)),
                ]
                self.blocks.append((body, None, False))
                channels = (outputs, 1)

    def _mobilenet_v2(self) -> None:
        self.blocks.append(([self._add('features.0', 0, (3, 1), (32, 1), kernel=3, stride=2)], None, False))
        channels, number = (32, 1), 0
        for expansion, outputs, blocks, first in MOBILENET_V2:
            for block in range(blocks):
                number += 1
                stride = first if block == 0 else 1
                name, body, inside = f'features.{number}.body', [], (channels[0] * expansion, expansion)
                if expansion > 1:
                    body.append(self._add(name, 0, channels, inside))
                body.append(self._add(name, 3 * len(body), inside, inside, kernel=3, stride=stride, depthwise=True))
                body.append(self._add(name, 3 * len(body), inside, (outputs, 1), activation=None))
                self.blocks.append((body, None, stride == 1 and channels[0] == outputs))
                channels = (outputs, 1)
        self.blocks.append(([self._add(f'features.{number + 1}', 0, channels, (1280, 0))], None, False))

    def __call__(self, x: Tensor, width: float, training: bool = False) -> tuple[Tensor, Tensor]:
        """The last features and the logits; in training by the statistics of the batch."""
        for number, (body, shortcut, adds) in enumerate(self.blocks):
            y = x
            for conv in body:
                y = self._run(conv, y, width, training)
            if shortcut is not None:
                y = y + self._run(shortcut[0], x, width, training)
            elif adds:
                y = y + x
            if self.kind == 'resnet50':
                y = F.max_pool2d(y, 3, 2, 1) if number == 0 else F.relu(y)
            x = y
        weight = self.state['classifier.0.weight'][:, : x.size(1)]
        return x, F.linear(x.mean((2, 3)), weight, self.state['classifier.0.bias'])

    def _run(self, conv: Conv, x: Tensor, width: float, training: bool) -> Tensor:
        size = self.active(conv.outputs, width)
        weight = self.state[f'{conv.name}.weight'][:size]
        groups = x.size(1) if conv.depthwise else 1
        x = F.conv2d(x, weight[:, : x.size(1) // groups], None, conv.stride, conv.kernel // 2, 1, groups)
        plain = conv.outputs[1] == 0
        entry = conv.norm
        if not plain and (self.switchable or not training):
            entry = f'{conv.norm}.bn.{self.lists.index(width)}'
        affine = entry if self.switchable else conv.norm
        weight, bias = (self.state[f'{affine}.{key}'][:size] for key in ('weight', 'bias'))
        moments = (None, None)
        if not training:
            moments = (self.state[f'{entry}.running_mean'], self.state[f'{entry}.running_var'])
        x = F.batch_norm(x, *moments, weight, bias, training)
        return x if conv.activation is None else dict(relu=F.relu, relu6=F.relu6)[conv.activation](x)
