"""Rules of blocks that count channels themselves, and how a plan shows what it found."""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, Res2Net
from mmdet.models.layers import InvertedResidual
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import nn

import mmmutual
from mmmutual.layers import Segment
from mmmutual.slimming import BlockRule, block_rule, plan_slimming
from mmmutual.slimming.blocks import SlimBottle2neck, SlimmableGenericRoIExtractor, SlimmableSingleRoIExtractor
from mmmutual.slimming.rules import RULES


@pytest.fixture
def rules(monkeypatch):
    """The registry; what a test changes is undone."""
    own = dict(RULES)
    monkeypatch.setattr('mmmutual.slimming.rules.RULES', own)
    return own


class Halves(nn.Module):
    """A block that counts half of the channels of its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 64, 3), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 16, 1)
        self.half = 32

    def forward(self, x):
        x = self.one(x)
        return self.three(self.two(x[:, : self.half]) + x[:, self.half :])


class SlimHalves(Halves):
    @property
    def half(self) -> int:
        full = self.__dict__['half']
        return full if self.one.width == 1.0 else Segment(full).active(self.one.width)

    @half.setter
    def half(self, value: int) -> None:
        self.__dict__['half'] = value

    def narrow_values(self) -> dict[str, int]:
        return dict(half=self.half)


def slimming(model: nn.Module) -> set[str]:
    return {plan.name for plan in plan_slimming(model).layers if plan.slims_out}


def outputs(model: nn.Module, name: str) -> tuple[Segment, ...]:
    return next(plan.outputs for plan in plan_slimming(model).layers if plan.name == name)


def test_a_block_that_counts_slims_with_a_rule(rules):
    """Without one what it counts has full outputs; what it takes to the end slims."""
    model = nn.Sequential(Halves(), nn.Conv2d(16, 8, 1))
    assert outputs(model, '0.one')[0].is_full
    rule = block_rule(Halves)(lambda block: BlockRule(counterpart=SlimHalves, counts=dict(half=block.one)))
    rules[Halves] = rule
    assert outputs(model, '0.one') == (Segment(32), Segment(32))
    plan = plan_slimming(model)
    plan.apply_((1.0, 0.5))
    mmmutual.set_width(model, 0.5)
    assert type(model[0]) is SlimHalves and model[0].half == 16
    assert model[0].one(torch.rand(1, 3, 8, 8)).size(1) == 32 and model(torch.rand(1, 3, 8, 8)).size(1) == 8
    plan.undo_()
    assert type(model[0]) is Halves and model[0].half == 32
    RULES.pop(Halves, None)


def test_a_subclass_of_a_block_with_a_counterpart_has_no_rule(rules):
    class Other(Halves):
        pass

    rules[Halves] = lambda block: BlockRule(counterpart=SlimHalves, counts=dict(half=block.one))
    model = nn.Sequential(Other(), nn.Conv2d(16, 8, 1))
    assert outputs(model, '0.one')[0].is_full


def test_multiples_and_kept_layers_of_a_rule(rules):
    class Pair(nn.Sequential):
        pass

    model = nn.Sequential(Pair(nn.Conv2d(3, 96, 1), nn.Conv2d(96, 64, 1)), nn.Conv2d(64, 16, 1), nn.Conv2d(16, 8, 1))
    assert plan_slimming(model).layers[0].outputs == (Segment(96, 8),)
    rules[Pair] = lambda block: BlockRule(multiples={block[0]: 24}, kept=(block[1],))
    plan = plan_slimming(model)
    assert plan.layers[0].outputs == (Segment(96, 24),) and plan.layers[1].inputs == (Segment(96, 24),)
    assert not plan.layers[1].slims_out and plan.layers[2].slims_out


def test_res2net_counts_its_pieces(rules):
    stage = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    model = Res2Net(depth=50, scales=4, base_width=26, base_channels=32, **stage)
    plan = plan_slimming(model)
    assert set(plan.blocks.values()) == {SlimBottle2neck} and len(plan.blocks) == 3
    assert outputs(model, 'layer1.1.conv1') == (Segment(26),) * 4
    rules.clear()
    assert outputs(model, 'layer1.1.conv1')[0].is_full


def test_inverted_residuals_expand_active_channels(rules):
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), InvertedResidual(16, 32, 96, stride=2), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 8, 1)
    )
    expand = next(plan for plan in plan_slimming(model).layers if plan.name == '1.expand_conv.conv')
    assert expand.outputs == (Segment(96, 48),)
    rules.clear()
    expand = next(plan for plan in plan_slimming(model).layers if plan.name == '1.expand_conv.conv')
    assert expand.outputs == (Segment(96, 8),)


def test_the_last_layer_of_mobilenet_v2_is_complete(rules):
    model = MobileNetV2(out_indices=(7,))
    assert 'conv2.conv' not in slimming(model)
    rules.clear()
    assert 'conv2.conv' in slimming(model)


@pytest.mark.parametrize(
    ('kind', 'counterpart'),
    [(SingleRoIExtractor, SlimmableSingleRoIExtractor), (GenericRoIExtractor, SlimmableGenericRoIExtractor)],
)
def test_roi_extractors_count_the_channels_of_their_features(kind, counterpart):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(16, 32, 1)
            layer = dict(type='RoIAlign', output_size=2, sampling_ratio=1)
            self.extractor = kind(roi_layer=layer, out_channels=32, featmap_strides=[4])
            self.fc, self.out = nn.Linear(128, 32), nn.Linear(32, 4)

        def forward(self, images, samples=None, mode='tensor'):
            boxes = images.new_tensor([[0, 0, 0, 32, 32], [0, 8, 8, 40, 40]])
            return self.out(self.fc(self.extractor((self.neck(self.backbone(images)),), boxes).flatten(1)))

    model = Detector().eval()
    images = torch.rand(1, 3, 64, 64)
    expected = model(images)
    plan = plan_slimming(model, 'detector')
    assert plan.blocks == {model.extractor: counterpart}
    assert [layer.inputs for layer in plan.layers if layer.name == 'fc'] == [(Segment(128, 32),)]
    plan.apply_((1.0, 0.5))
    assert torch.equal(model(images), expected)
    mmmutual.set_width(model, 0.5)
    assert model(images).shape == (2, 4)
    plan.undo_()
    assert type(model.extractor) is kind and torch.equal(model(images), expected)


class Small(nn.Module):
    """A backbone, a concatenation and a layer that takes all."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16))
        self.one, self.two, self.both = nn.Conv2d(16, 32, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(56, 16, 1)
        self.act, self.out = nn.PReLU(16), nn.Linear(16, 4)

    def forward(self, images, samples=None, mode='tensor'):
        x = self.backbone(images)
        x = self.act(self.both(torch.cat((self.one(x), self.two(x)), 1)))
        return self.out(x.flatten(2).transpose(1, 2))


def test_the_groups_name_who_writes_follows_and_reads():
    plan = plan_slimming(Small().eval(), 'detector')
    groups = {tuple(part.layer for part in group.writers): group for group in plan.groups}
    first = groups[('backbone.0',)]
    assert (first.channels, first.divisor) == (16, 8)
    assert first.followers == [('backbone.1', 0, 16)]
    assert first.readers == [('one', 0, 16), ('two', 0, 16)]
    assert groups[('one',)].readers == [('both', 0, 32)] and groups[('two',)].readers == [('both', 32, 24)]
    assert len(plan.groups) == 3


def test_a_plan_prints_as_a_table():
    plan = plan_slimming(Small().eval(), 'detector')
    lines = str(plan).splitlines()
    assert 'Small, scope detector' in lines[0]
    assert [word for word in lines[1].split('|')[1].split()] == ['part']
    assert any('backbone' in line and '2 of 2' in line and ' 1 ' in line for line in lines)
    assert any('all' in line and '5 of 7' in line and ' 3 ' in line and '100.0%' in line for line in lines)
    assert any('PReLU needs all of its channels' in line for line in lines)
    assert 0.8 < plan.share < 1 and plan.has_statistics
    assert plan.main_reason('none') in plan.reasons
    assert not plan_slimming(nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1))).has_statistics
