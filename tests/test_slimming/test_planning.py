"""Planning leaves a model as it is; undoing a plan does too; errors say what to do."""

import copy
import pickle
import random

import mmdet
import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimConv2d, Slimmable
from mmmutual.slimming import plan_neck, plan_slimming
from tests.support.backbones import OwnConv2d

CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
WIDTHS = (1.0, 0.5)


def detector(name: str = 'retinanet/retinanet_r50_fpn_1x_coco') -> nn.Module:
    model = Config.fromfile(f'{CONFIGS}/{name}.py').model
    model.backbone.update(depth=18, base_channels=16, init_cfg=None)
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    for head in (model.get('bbox_head'), model.get('rpn_head')):
        if head is not None:
            head.update(in_channels=32, feat_channels=32)
    if 'roi_head' in model:
        model.roi_head.bbox_roi_extractor.out_channels = 32
        model.roi_head.bbox_head.update(in_channels=32, fc_out_channels=64)
    return MODELS.build(model)


def state_of(model: nn.Module) -> list:
    """All that a model consists of, with the identity of its tensors."""
    found = [(name, id(value), value.clone()) for name, value in model.state_dict(keep_vars=True).items()]
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key[0] != '_'}
        hooks = {key: dict(value) for key, value in vars(module).items() if 'hooks' in key}
        requires = [parameter.requires_grad for parameter in module.parameters()]
        found.append((name, type(module), sorted(vars(module)), {**own}, hooks, requires))
    return found


def assert_same_state(ours: list, theirs: list) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[:2] == other[:2]
        if isinstance(mine[2], torch.Tensor):
            assert torch.equal(mine[2], other[2])
        else:
            assert mine[2:] == other[2:], mine[0]


def random_state() -> tuple:
    state = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2:]


@pytest.mark.parametrize('scope', ['backbone', 'detector'])
@pytest.mark.parametrize('name', ['retinanet/retinanet_r50_fpn_1x_coco', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco'])
def test_planning_leaves_a_model_as_it_is(name, scope):
    model = detector(name)
    model.train()
    model.backbone.layer3.eval()
    model.neck.lateral_convs[0].register_forward_hook(lambda *args: None)
    before, drawn = state_of(model), random_state()
    plan = plan_slimming(model, scope)
    assert_same_state(state_of(model), before)
    assert random_state() == drawn and torch.is_grad_enabled()
    plan.apply_(WIDTHS)
    assert len(plan.layers) >= sum(isinstance(layer, Slimmable) for layer in model.modules()) > 20
    mmmutual.set_width(model, 0.5)
    plan.undo_()
    assert_same_state(state_of(model), before)
    plan.apply_(WIDTHS)
    plan.undo_()
    plan.undo_()
    assert_same_state(state_of(model), before)


class Fails(nn.Module):
    """A model that takes no image, and draws random numbers before it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = ResNet(18, base_channels=16), nn.Conv2d(16, 4, 1)

    def forward(self, images, samples=None, mode='tensor'):
        self.backbone(images)
        torch.rand(3)
        raise RuntimeError('it wants text')


def test_planning_that_fails_leaves_a_model_as_it_is():
    model = Fails()
    model.train()
    before, drawn = state_of(model), random_state()
    with pytest.raises(
        ValueError, match=r"Fails does not run on an image alone, .* \(it wants text\)\. Choose scope='backbone'"
    ):
        plan_slimming(model, 'detector')
    assert_same_state(state_of(model), before)
    assert random_state() == drawn


def test_what_is_behind_the_backbone_may_fail():
    """Then the backbone's levels are full, since nobody knows what takes them."""
    model = Fails()
    model.train()
    plan = plan_slimming(model)
    assert any('(it wants text)' in reason for reason in plan.reasons)
    plan.apply_(WIDTHS)
    model.backbone.norm_eval = False
    model.train()
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model.backbone(torch.rand(2, 3, 64, 64))] == [16, 32, 64, 128]
    assert model.backbone.layer1[0].conv1.slim_out


def test_a_copy_of_a_slimmable_detector_undoes_and_pickles():
    model = detector()
    model.eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    mmmutual.undo_slimmable_(other)
    assert not any(isinstance(layer, Slimmable) for layer in other.modules())
    assert any(isinstance(layer, Slimmable) for layer in model.modules())
    with torch.no_grad():
        for result in (model(images), other(images)):
            assert all(map(torch.equal, [*result[0], *result[1]], [*expected[0], *expected[1]]))


@pytest.mark.parametrize(
    ('make', 'text'),
    [
        (
            lambda: plan_slimming(detector(), 'head'),
            "scope must be 'backbone', as in the paper, or 'detector', .*'head'",
        ),
        (
            lambda: plan_slimming(nn.ModuleDict(dict(teacher=Fails(), student=Fails()))),
            r'ModuleDict consists of several models: its backbones are teacher\.backbone, student\.backbone\. Make the',
        ),
        (
            lambda: plan_slimming(nn.Sequential(nn.Conv2d(3, 8, 3), nn.LSTM(8, 8))),
            'Sequential does not run on an image alone',
        ),
        (
            lambda: plan_slimming(nn.Sequential(nn.Conv2d(3, 8, 3))),
            'Sequential cannot be made slimmable: no run of them is long enough to be cut',
        ),
        (
            lambda: plan_neck(FPN([32, 64], 16, 2, conv_cfg=dict(type=OwnConv2d)), [32, 64]),
            'FPN cannot be made slimmable behind a slimmable backbone: OwnConv2d needs all of its channels',
        ),
        (lambda: plan_neck(FPN([32, 64], 16, 2), [32, 64, 128]), 'FPN does not run on an image alone'),
        (lambda: plan_slimming(detector()).apply_(()), 'widths is empty'),
        (lambda: plan_slimming(detector()).apply_((1.0, 3.0)), 'each of widths must be above 0 and at most 1'),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_layer_that_runs_in_training_only_and_takes_all_is_refused():
    model = detector()
    model.bbox_head.auxiliary = nn.Conv1d(32, 4, 1)
    with pytest.raises(
        ValueError,
        match=r'RetinaNet cannot be made slimmable with its heads: its layer bbox_head\.auxiliary \(Conv1d\) runs in training only and '
        r"needs all of its channels\. Choose scope='backbone'",
    ):
        plan_slimming(model, 'detector')
    assert plan_slimming(model)


@pytest.mark.parametrize('outputs', [[Segment(16), Segment(16)], [Segment(32, 16)]])
def test_a_layer_that_slims_in_another_way_is_refused(outputs):
    """Channels that are added to others' slim as these do."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.out = SlimConv2d(3, 32, 3), nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)

        def forward(self, x):
            return self.out(self.one(x).softmax(1) if self.mixes else self.one(x) + self.two(x))

    model = Sum()
    model.mixes = len(outputs) == 1
    model.one.divide(outputs=outputs)
    with pytest.raises(ValueError, match=r'one \(SlimConv2d\) is slimmable already, with the out_segments .* but this'):
        plan_slimming(model)


def test_multiples_of_a_slimmable_layer_go_on():
    """What follows is told of them: 96 channels in multiples of 24 are 48 at width 0.4."""
    model = nn.Sequential(SlimConv2d(3, 96, 3), nn.BatchNorm2d(96), nn.Conv2d(96, 32, 3), nn.Conv2d(32, 8, 3))
    model[0].divide(outputs=[Segment(96, 24)])
    plan = plan_slimming(model)
    assert plan.groups[0].divisor == 24
    plan.apply_((1.0, 0.4))
    mmmutual.set_width(model, 0.4)
    model.train()
    assert model[:1](torch.rand(2, 3, 16, 16)).size(1) == 48
    model(torch.rand(2, 3, 16, 16))


def test_what_the_forward_keeps_is_forgotten():
    """A cache that planning filled would have the size of the image that it made up."""

    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)
            self.register_buffer('grid', None)

        def forward(self, x):
            if self.grid is None:
                self.grid, self.size = x.new_ones(x.shape[2:]), x.shape
            return self.two(self.one(x * self.grid))

    model = Caching()
    mmmutual.make_slimmable_(model, WIDTHS)
    assert model.grid is None and not hasattr(model, 'size')


def test_buffers_that_the_forward_counts_up_are_as_before():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)
            self.register_buffer('calls', torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.two(self.one(x))

    model = Counting()
    mmmutual.make_slimmable_(model, WIDTHS)
    assert model.calls == 0


def test_an_extractor_that_runs_in_training_only_undoes():
    model = detector('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    model.roi_head.auxiliary_extractor = copy.deepcopy(model.roi_head.bbox_roi_extractor)
    before = state_of(model)
    plan = plan_slimming(model, 'detector')
    plan.apply_(WIDTHS)
    assert hasattr(model.roi_head.bbox_roi_extractor, '_swapped')
    plan.undo_()
    assert_same_state(state_of(model), before)


def test_a_detector_with_a_language_model_runs_in_prediction():
    """mmdet's GLIP and Grounding DINO read their text in prediction only."""

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3))
            self.head, self.language_model = nn.Conv2d(32, 4, 1), nn.Identity()

        def forward(self, images, samples, mode):
            assert mode == 'predict' and samples[0].text
            return self.head(self.backbone(images))

    plan = plan_slimming(Detector(), 'detector')
    assert next(layer for layer in plan.layers if layer.name == 'head').slims_in
