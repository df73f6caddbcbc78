"""The grid of widths that a model was built for, and the widths of it that are evaluated."""

import pytest
from mmdet.models import FPN, ResNet
from mmengine.model import BaseModel
from torch import nn

import mmmutual
from mmmutual import SlimmableFPN, SlimmableResNet, width_grid
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, evaluated_widths
from mmmutual.slimming import undo_slimmable_

GRID = (1.0, 0.75, 0.5)
GROUPS = dict(norm_cfg=dict(type='GN', num_groups=4))


class Detector(BaseModel):
    """A backbone and a neck."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def forward(self, inputs, mode='tensor'):
        return self.neck(self.backbone(inputs))


def resnet(kind: type = SlimmableResNet, **options) -> nn.Module:
    return kind(depth=18, base_channels=16, **options)


def fpn(kind: type = SlimmableFPN, **options) -> nn.Module:
    return kind(in_channels=[16, 32, 64, 128], out_channels=16, num_outs=4, **options)


@pytest.mark.parametrize('options', [{}, GROUPS], ids=['batch norms', 'group norms'])
def test_a_backbone_declares_the_grid_of_a_detector(options):
    model = Detector(resnet(widths=(0.5, 1.0, 0.75), **options), fpn())
    assert width_grid(model) == width_grid(model.backbone) == GRID
    with pytest.raises(ValueError, match='SlimmableFPN declares no widths, since .* one by one: pass widths, for exam'):
        width_grid(model.neck)


@pytest.mark.parametrize('options', [{}, GROUPS], ids=['batch norms', 'group norms'])
def test_a_model_made_slimmable_declares_it_until_that_is_undone(options):
    model = Detector(resnet(ResNet, **options), fpn(FPN))
    mmmutual.make_slimmable_(model, GRID)
    assert width_grid(model) == GRID
    undo_slimmable_(model)
    with pytest.raises(ValueError, match='has no slimmable layer'):
        width_grid(model)


def test_the_outermost_declaration_counts():
    """``SlimmableDetector`` around a slimmable backbone: all of its norms have the widths of the detector."""
    model = Detector(resnet(widths=(1.0, 0.5)), fpn(FPN))
    mmmutual.make_slimmable_(model, GRID)
    assert width_grid(model) == GRID
    undo_slimmable_(model)
    assert width_grid(model) == (1.0, 0.5)


def test_layers_built_one_by_one():
    assert width_grid(nn.Sequential(SlimConv2d(3, 16, 1), SlimBatchNorm2d(16, widths=(0.5, 0.9)))) == (0.9, 0.5)
    with pytest.raises(ValueError, match='Sequential declares no widths'):
        width_grid(nn.Sequential(SlimConv2d(3, 16, 1), nn.ReLU()))


def test_widths_of_a_checkpoint_or_a_calibration_are_not_part_of_it():
    norm, other = SlimBatchNorm2d(16, widths=(1.0, 0.5)), SlimBatchNorm2d(16, widths=GRID)
    norm.load_state_dict(other.state_dict())
    norm.add_width(0.25)
    assert norm.widths == (*GRID, 0.25) and width_grid(norm) == (1.0, 0.5)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
        (dict(widths=[0.3, 1.0]), (1.0, 0.3)),
        (dict(num_widths=1), (1.0,)),
        (dict(num_widths=2), (1.0, 0.4)),
        (dict(num_widths=3), (1.0, 0.7, 0.4)),
        (dict(num_widths=4), (1.0, 0.8, 0.6, 0.4)),
        (dict(num_widths=7), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
        (dict(num_widths=20), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
        (dict(widths=(0.5, 1.0), num_widths=4), (1.0, 0.5)),  # a config inherits num_widths and sets widths
    ],
)
def test_evaluated_widths(options, expected):
    assert evaluated_widths(SlimBatchNorm2d(8, widths=(1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)), **options) == expected


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (dict(num_widths=0), ValueError, 'num_widths must be at least 1, but got 0'),
        (dict(num_widths=2.0), TypeError, 'num_widths must be a whole number, but got 2.0'),
        (dict(num_widths=True), TypeError, 'num_widths must be a whole number, but got True'),
        (dict(widths=()), ValueError, 'widths is empty'),
        (dict(num_widths=4), ValueError, 'SlimConv2d declares no widths'),
    ],
    ids=str,
)
def test_wrong_arguments(options, error, text):
    with pytest.raises(error, match=text):
        evaluated_widths(SlimConv2d(16, 16, 1), **options)
