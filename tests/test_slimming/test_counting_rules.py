"""Rules of blocks that count several numbers, compute behind a layer, or have parameters for their training alone."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment
from mmmutual.slimming import BlockRule, plan_slimming
from mmmutual.slimming.rules import RULES
from tests.support.tiny_transformers import detr


@pytest.fixture
def rules(monkeypatch):
    """The registry; what a test changes is undone."""
    own = dict(RULES)
    monkeypatch.setattr('mmmutual.slimming.rules.RULES', own)
    return own


class Detector(nn.Module):
    """A detector whose head is given."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head, self.out = nn.Conv2d(3, 16, 3, 4, 1), head, nn.Linear(32, 4)

    def forward(self, images: Tensor, samples=None, mode: str = 'tensor') -> Tensor:
        return self.out(self.head(self.backbone(images).flatten(2).transpose(1, 2)))


def slimming(model: nn.Module) -> set[str]:
    return {layer.name for layer in plan_slimming(model, 'detector').layers if layer.slims_out}


def assert_width_one_is_stock(model: nn.Module, counterpart: type[nn.Module]) -> None:
    """The plan swaps the head, which computes the same, runs at half of the width and becomes stock again."""
    images, kind = torch.rand(2, 3, 64, 64), type(model.head)
    expected = model(images)
    plan = plan_slimming(model, 'detector')
    plan.apply_((1.0, 0.5))
    assert type(model.head) is counterpart and torch.equal(model(images), expected)
    with mmmutual.use_width(model, 0.5):
        assert model(images).shape == expected.shape
    plan.undo_()
    assert type(model.head) is kind and torch.equal(model(images), expected)


class Views(nn.Module):
    """A block that counts the channels behind each of its layers; the last number is that of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 24), nn.Linear(24, 32)])
        self.counts = [24, 32, 7]

    def forward(self, x: Tensor) -> Tensor:
        for layer, count in zip(self.layers, self.counts):
            x = layer(x).reshape(*x.shape[:2], count)
        return x


class CountingViews(Views):
    @property
    def counts(self) -> list[int]:
        return [*(layer.out_segments[0].active(layer.width) for layer in self.layers), 7]

    @counts.setter
    def counts(self, value: list[int]) -> None:
        self.__dict__['counts'] = value


def test_a_list_counts_the_channels_behind_each_of_several_layers(rules):
    model = Detector(Views()).eval()
    assert slimming(model) == {'backbone'}
    rules[Views] = lambda block: BlockRule(counterpart=CountingViews, counts=dict(counts=[*block.layers, None]))
    assert slimming(model) == {'backbone', 'head.layers.0', 'head.layers.1'}
    assert_width_one_is_stock(model, CountingViews)
    assert model.head.counts == [24, 32, 7]


def test_the_numbers_are_those_of_the_segments(rules):
    """They are not multiples of 8 alone."""
    rules[Views] = lambda block: BlockRule(
        counterpart=CountingViews, counts=dict(counts=[*block.layers, None]), multiples={block.layers[1]: 16}
    )
    model = Detector(Views()).eval()
    (last,) = (layer for layer in plan_slimming(model, 'detector').layers if layer.name == 'head.layers.1')
    assert last.outputs == (Segment(32, 16),)
    assert_width_one_is_stock(model, CountingViews)


class Encodes(nn.Module):
    """A block that encodes something in as many channels as its input has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.code = nn.Linear(16, 32), nn.Linear(32, 32)

    def waves(self, channels: int) -> Tensor:
        return torch.linspace(0, 3, channels).sin()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.code(self.waves(x.size(-1)))


class EncodesInAll(Encodes):
    """It encodes in all channels at every width."""

    def waves(self, channels: int) -> Tensor:
        return super().waves(32)


def test_a_block_that_computes_behind_a_layer_needs_its_counterpart_in_narrow_networks(rules):
    model = Detector(Encodes()).eval()
    rules[Encodes] = lambda block: BlockRule(counterpart=EncodesInAll)
    assert slimming(model) == {'backbone'}
    rules[Encodes] = lambda block: BlockRule(counterpart=EncodesInAll, behind=block.first)
    assert slimming(model) == {'backbone', 'head.first', 'head.code'}
    assert_width_one_is_stock(model, EncodesInAll)


class Queries(nn.Module):
    """A block whose training needs one more parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.queries, self.labels = nn.Parameter(torch.rand(5, 32)), nn.Parameter(torch.rand(5, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).mean(1, keepdim=True)
        return x + (self.queries + self.labels if self.training else self.queries)


def test_a_parameter_of_the_training_alone_has_the_channels_of_another(rules):
    model = Detector(Queries()).eval()
    assert [plan.name for plan in plan_slimming(model, 'detector').parameters] == ['head.queries']
    rules[Queries] = lambda block: BlockRule(alike={block.labels: block.queries})
    plan = plan_slimming(model, 'detector')
    assert {each.name: each.segments for each in plan.parameters} == {
        'head.queries': (Segment(32),), 'head.labels': (Segment(32),)
    }  # fmt: skip
    plan.apply_((1.0, 0.5))
    with mmmutual.use_width(model, 0.5):
        assert model.train()(torch.rand(2, 3, 64, 64)).shape == (2, 5, 4)
        assert model.head.labels.shape == (5, 16)
    plan.undo_()
    assert type(model.head) is Queries


def test_an_embedding_that_only_a_training_uses_is_refused():
    """Its channels may have to be those of tokens that slim."""
    detector = MODELS.build(detr())
    detector.labels = nn.Embedding(80, 32)
    before = copy.deepcopy(detector.state_dict())
    message = r"^DETR cannot .*: labels\.weight is used in training only.*\(alike\).*'backbone'$"
    with pytest.raises(ValueError, match=message):
        plan_slimming(detector, 'detector')
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert plan_slimming(detector, 'backbone').parameters == ()
