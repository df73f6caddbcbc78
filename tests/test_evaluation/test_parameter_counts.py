"""A sub-network has the parameters of the separately built narrow network."""

import pytest
import torch
from mmcv.ops import SAConv2d
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import mmmutual
from mmmutual.evaluation import count_parameters
from mmmutual.layers import Segment, SlimConv2d, SlimGroupNorm, SlimLinear, slim_layer_

WIDTHS = (1.0, 0.75, 0.5, 0.25)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def stock_narrow(config, width: float) -> nn.Module:
    """The detector of mmdet's own classes whose backbone has ``width`` times the channels."""
    config = Config(config.to_dict())
    base = round(config.backbone.pop('base_channels', 64) * width)
    config.backbone.update(type='ResNet', base_channels=base)
    config.backbone.pop('widths')
    config.neck.update(type='FPN', in_channels=[round(channels * width) for channels in config.neck.in_channels])
    return MODELS.build(config)


@pytest.mark.integration
@pytest.mark.parametrize('name', ['mutual_mask_rcnn_r18_shapes', 'mutual_faster_rcnn_r50'])
def test_equal_to_the_narrow_stock_detector(name, root):
    config = Config.fromfile(root / f'configs/{name}.py').model
    detector = MODELS.build(config)
    for width in WIDTHS:
        with mmmutual.use_width(detector, width):
            assert count_parameters(detector) == parameters(stock_narrow(config, width))
    assert count_parameters(detector) == parameters(detector)


class Backbone(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.backbone = nn.Sequential(*layers)


def test_each_kind_of_layer():
    depthwise = SlimConv2d(16, 16, 3, padding=1, groups=16)
    grouped = SlimConv2d(16, 32, 1, groups=4, bias=False)
    layers = [SlimConv2d(3, 16, (3, 5)), depthwise, grouped, SlimGroupNorm(32, 4), nn.PReLU()]
    model = Backbone(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), SlimLinear(32, 24), SlimLinear(24, 5, slim_out=False)
    )
    mmmutual.set_width(model, 0.5)
    expected = (8 * 3 * 15 + 8) + (8 * 9 + 8) + 16 * 4 + 2 * 16 + 1 + (16 * 16 + 16) + (16 * 5 + 5)
    assert count_parameters(model) == expected
    mmmutual.set_width(model, 1.0)
    assert count_parameters(model) == parameters(model)


def test_a_convolution_with_others_inside_counts_as_the_narrow_stock_layer():
    """Its buffers do not count."""
    model = Backbone(SlimConv2d(3, 16, 1), sac := SAConv2d(16, 32, 3, padding=1))
    slim_layer_(sac, WIDTHS, (Segment(16),), (Segment(32),))
    mmmutual.set_width(model, 0.5)
    assert count_parameters(model) == 3 * 8 + 8 + parameters(SAConv2d(8, 16, 3))
    mmmutual.set_width(model, 1.0)
    assert count_parameters(model) == parameters(model)


def test_shared_and_unused_layers():
    """A layer that runs twice counts once, with the larger part; one that never runs counts in full."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unused = SlimConv2d(16, 16, 1, slim_out=False), SlimConv2d(16, 16, 1)

        def forward(self, x):
            return self.conv(self.conv(x.new_zeros(1, 16, 4, 4)[:, :8]))

    model = Backbone(Twice())
    mmmutual.set_width(model, 0.5)
    assert count_parameters(model) == (16 * 16 + 16) + (16 * 16 + 16)


def test_the_model_is_left_as_it_was():
    model = Backbone(SlimConv2d(3, 16, 3))
    model.train()
    weight = model.backbone[0].weight
    before = weight.clone()
    count_parameters(model)
    assert model.training and model.backbone[0].weight is weight and torch.equal(weight, before)
    assert not model.backbone[0]._forward_hooks
