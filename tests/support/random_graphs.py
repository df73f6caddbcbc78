"""Small detectors with random graphs: layers and operations of all kinds, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.graph_operations import FINE, MIXING, PAIRS, SPATIAL, maps, tokens

SIZES = (16, 24, 32, 48)


class Graph(nn.Module):
    """Steps on a growing list of maps.

    A step is a function of the graph and of its maps, so a copy of the graph uses the layers of the copy.

    Args:
        draw: Draws the steps.
        channels: Channels of each map that goes in.
        steps: How many.
        mixing: The share of operations that mix channels.
    """

    def __init__(self, draw: random.Random, channels: list[int], steps: int, mixing: float) -> None:
        super().__init__()
        self.draw, self.mixing = draw, mixing
        self.layers, self.gains = nn.ModuleList(), nn.ParameterList()
        self.steps, self.kinds = [], []
        values = [torch.rand(1, count, SPATIAL, SPATIAL) for count in channels]
        while len(self.steps) < steps:
            kind, step = self.make(values)
            with torch.no_grad():
                value = step(self, values)
            if value.shape[2:] == (SPATIAL, SPATIAL) and 8 <= value.size(1) <= 96:
                self.kinds.append(kind)
                self.steps.append(step)
                values.append(value)
        self.outputs = [value.size(1) for value in values]

    def forward(self, values: list[Tensor]) -> list[Tensor]:
        values = list(values)
        for step in self.steps:
            values.append(step(self, values))
        return values

    def add(self, layer: nn.Module) -> int:
        """The place of a new layer."""
        self.layers.append(layer.eval())
        return len(self.layers) - 1

    def make(self, values: list[Tensor]) -> tuple[str, Callable[[Graph, list[Tensor]], Tensor]]:
        """A step with one or two of the maps as input, the last ones more often."""
        draw = self.draw
        one, two = (max(draw.randrange(len(values)), draw.randrange(len(values))) for _ in range(2))
        channels, others = values[one].size(1), values[two].size(1)
        if draw.random() < 0.55:
            kind = draw.choice(LAYERS)
            function = getattr(self, f'make_{kind}')(channels)
            return kind, lambda net, v: function(net, v[one])
        if draw.random() < 0.3:
            if channels == others and one != two and draw.random() < 0.7:
                kind = draw.choice(sorted(PAIRS))
                return kind, lambda net, v: PAIRS[kind](v[one], v[two])
            return 'cat', lambda net, v: torch.cat((v[one], v[two]), 1)
        kinds = MIXING if draw.random() < self.mixing else FINE
        kind = draw.choice(sorted(kinds))
        return kind, lambda net, v: kinds[kind](v[one])

    def make_conv(self, channels):
        size = self.draw.choice([1, 3])
        return call(self.add(nn.Conv2d(channels, self.draw.choice(SIZES), size, padding=size // 2)))

    def make_shared(self, channels):
        """A layer that another step has too, if there is one that fits."""
        for place, layer in enumerate(self.layers):
            if isinstance(layer, nn.Conv2d) and layer.in_channels == channels:
                return call(place)
        return self.make_conv(channels)

    def make_depthwise(self, channels):
        outputs = channels * self.draw.choice([1, 1, 2])
        return call(self.add(nn.Conv2d(channels, outputs, 3, padding=1, groups=channels)))

    def make_grouped(self, channels):
        groups = self.draw.choice([size for size in (1, 2, 4, 8) if channels % size == 0])
        return call(self.add(nn.Conv2d(channels, groups * self.draw.choice([4, 8]), 1, groups=groups)))

    def make_transposed(self, channels):
        i = self.add(nn.ConvTranspose2d(channels, self.draw.choice(SIZES), 2, stride=2))
        return lambda net, x: F.max_pool2d(net.layers[i](x), 2)

    def make_linear(self, channels):
        i = self.add(nn.Linear(channels, self.draw.choice(SIZES)))
        return lambda net, x: maps(net.layers[i](tokens(x)))

    def make_mlp(self, channels):
        i, j = self.add(nn.Linear(channels, 2 * channels)), self.add(nn.Linear(2 * channels, channels))

        def step(net, x):
            x = x.permute(0, 2, 3, 1)
            return (x + net.layers[j](F.gelu(net.layers[i](x)))).permute(0, 3, 1, 2)

        return step

    def make_batch_norm(self, channels):
        return call(self.add(nn.BatchNorm2d(channels)))

    def make_group_norm(self, channels):
        groups = self.draw.choice([size for size in (1, 2, 4, 8) if channels % size == 0])
        return call(self.add(nn.GroupNorm(groups, channels)))

    def make_layer_norm(self, channels):
        i = self.add(nn.LayerNorm(channels))
        return lambda net, x: maps(net.layers[i](tokens(x)))

    def make_gain(self, channels):
        self.gains.append(nn.Parameter(torch.rand(channels, 1, 1)))
        i = len(self.gains) - 1
        return lambda net, x: x * net.gains[i]

    def make_se(self, channels):
        i, j = self.add(nn.Conv2d(channels, 16, 1)), self.add(nn.Conv2d(16, channels, 1))
        return lambda net, x: x * net.layers[j](F.relu(net.layers[i](F.adaptive_avg_pool2d(x, 1)))).sigmoid()

    def make_flattened(self, channels):
        i = self.add(nn.Linear(4 * channels, 16))

        def step(net, x):
            values = net.layers[i](F.adaptive_avg_pool2d(x, 2).flatten(1))
            return values[..., None, None].expand(-1, -1, *x.shape[2:])

        return step

    def make_csp(self, channels):
        """Two halves, of which one is worked on."""
        width = self.draw.choice(SIZES)
        i, j = self.add(nn.Conv2d(channels, 2 * width, 1)), self.add(nn.Conv2d(width, width, 1))

        def step(net, x):
            first, second = net.layers[i](x).chunk(2, 1)
            return torch.cat((first, net.layers[j](second)), 1)

        return step


def call(place: int) -> Callable[[Graph, Tensor], Tensor]:
    """Calls a layer."""
    return lambda net, x: net.layers[place](x)


LAYERS = sorted(name.removeprefix('make_') for name in vars(Graph) if name.startswith('make_'))
LAYERS += ['conv'] * 6 + ['batch_norm'] * 2 + ['csp', 'linear', 'depthwise', 'group_norm']


class GraphDetector(nn.Module):
    """A backbone and a head of random graphs; each map that nobody reads is predicted from.

    Args:
        seed: Of the graphs.
        mixing: The share of operations that mix channels.
    """

    def __init__(self, seed: int, mixing: float = 0.3) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.backbone = nn.Module()
        self.backbone.stem = nn.Conv2d(3, draw.choice(SIZES), 3, stride=16, padding=1)
        self.backbone.graph = Graph(draw, [self.backbone.stem.out_channels], draw.randint(2, 6), mixing)
        self.bbox_head = nn.Module()
        self.bbox_head.graph = Graph(draw, self.backbone.graph.outputs, draw.randint(1, 4), mixing)
        chosen = [i for i, _ in enumerate(self.bbox_head.graph.outputs) if draw.random() < 0.6]
        self.chosen = chosen or [len(self.bbox_head.graph.outputs) - 1]
        self.bbox_head.last = nn.ModuleList(nn.Conv2d(self.bbox_head.graph.outputs[i], 4, 1) for i in self.chosen)

    @property
    def kinds(self) -> list[str]:
        """The steps' kinds."""
        return [*self.backbone.graph.kinds, *self.bbox_head.graph.kinds]

    def extract_feat(self, images):
        return self.backbone.graph([self.backbone.stem(images)])

    def forward(self, images, samples=None, mode='tensor'):
        values = self.bbox_head.graph(self.extract_feat(images))
        return [layer(values[index]) for index, layer in zip(self.chosen, self.bbox_head.last)]
