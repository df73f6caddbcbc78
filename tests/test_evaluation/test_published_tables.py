"""The multiply-adds that MutualNet prints for its MobileNets on ImageNet (arXiv 1909.12978), classifier included.

The tables round some numbers and cut others, so a count must be within 1 M of the printed one. Other readings of the
rule are far off: channels that are no multiples of 8, or the inside of V2's blocks slimmed by itself, miss by up to
22 M.
"""

from collections.abc import Iterable

import pytest
from torch import nn

import mmmutual
from mmmutual.layers import SlimLinear
from mmmutual.models.backbones import SlimmableMobileNetV1, SlimmableMobileNetV2

pytestmark = pytest.mark.integration  # builds whole published networks

V1 = [
    (1.0, 224, 569),
    (1.0, 192, 418),
    (0.95, 192, 380),
    (0.8, 192, 269),
    (0.85, 160, 215),
    (0.5, 160, 76),
    (0.25, 160, 21),
    (0.25, 128, 13),
]
V2 = [
    (1.0, 224, 300),
    (0.95, 224, 284),
    (0.9, 224, 269),
    (1.0, 192, 221),
    (0.75, 192, 154),
    (0.75, 160, 107),
    (0.7, 128, 57),
]


class Classifier(nn.Module):
    """The last level, its average, and 1000 classes."""

    def __init__(self, backbone: nn.Module, channels: int):
        super().__init__()
        classifier = SlimLinear(channels, 1000, slim_out=False)
        self.backbone = nn.Sequential(Last(backbone), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)


class Last(nn.Module):
    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.levels = backbone

    def forward(self, x):
        return self.levels(x)[-1]


def widths_of(table: list[tuple]) -> Iterable[float]:
    return sorted({width for width, _, _ in table}, reverse=True)


@pytest.fixture(scope='module')
def v1() -> Classifier:
    return Classifier(SlimmableMobileNetV1(widths=widths_of(V1)), 1024)


@pytest.fixture(scope='module')
def v2() -> Classifier:
    return Classifier(SlimmableMobileNetV2(widths=widths_of(V2)), 1280)


@pytest.mark.parametrize(('width', 'resolution', 'published'), V1)
def test_mobilenet_v1(v1, width, resolution, published):
    check(v1, width, resolution, published)


@pytest.mark.parametrize(('width', 'resolution', 'published'), V2)
def test_mobilenet_v2(v2, width, resolution, published):
    check(v2, width, resolution, published)


def check(model: nn.Module, width: float, resolution: int, published: int) -> None:
    mmmutual.set_width(model, width)
    millions = mmmutual.count_multiply_adds(model, (resolution, resolution))['total'] / 1e6
    assert published in (int(millions), round(millions)), millions
