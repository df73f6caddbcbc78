"""Backbones whose convolutions have a special forward: stock at width 1.0, and narrow networks below."""

import copy

import pytest
import torch
from mmcv.cnn.bricks.conv_ws import ConvAWS2d
from mmdet.models import backbones as stock
from mmdet.registry import MODELS
from torch import nn

import mmmutual
from mmmutual.deploy import narrow_
from mmmutual.deploy.export import shapes
from mmmutual.deploy.stock_channels import narrow_backbone
from mmmutual.slimming import plan_slimming
from tests.support.backbones import assert_narrow_is_stock
from tests.support.masked import assert_narrow_is_masked, randomize, share_statistics

WIDTHS = (1.0, 0.5, 0.25)
STAGES = dict(depth=50, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1), norm_eval=False)
TRIDENT = dict(num_branch=3, trident_dilations=(1, 2, 3), num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))


def detectors(width: float = 1.0) -> nn.Module:
    """DetectoRS, whose narrow networks are stock."""
    sac = dict(type='SAC', use_deform=True)
    options = dict(conv_cfg=dict(type='ConvAWS'), sac=sac, stage_with_sac=(False, True), output_img=True)
    return stock.DetectoRS_ResNet(**STAGES, **options, base_channels=int(32 * width))


def deformable(kind: type, **options) -> nn.Module:
    return kind(**STAGES, dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(False, True), **options)


def resnest(width: float = 1.0) -> nn.Module:
    """Split attention, whose narrow networks are stock: its convolutions slim inside each group."""
    return stock.ResNeSt(**STAGES, reduction_factor=2, base_channels=int(64 * width), stem_channels=int(32 * width))


BACKBONES = {
    'EfficientNet': lambda: stock.EfficientNet('b0', out_indices=(2, 3, 4)),
    'TridentResNet': lambda: stock.TridentResNet(
        depth=50, test_branch_idx=1, **TRIDENT, out_indices=(2,), norm_eval=False, base_channels=16
    ),
    'DetectoRS': detectors,
    'DCN': lambda: deformable(stock.ResNet, base_channels=16),
    'DCN, grouped': lambda: deformable(stock.ResNeXt, groups=8, base_width=4, base_channels=32),
    'ResNeSt': lambda: resnest(),
    'frozen': lambda: stock.ResNet(**STAGES, base_channels=16, norm_cfg=dict(type='FrozenBN')),
}
HALVES = r'layer\d\.\d\.(conv|bn)1\.|conv2\.(conv|bn0|fc2)\.'
PIECES = {HALVES: (2, 1)}  # of ResNeSt: layers whose outputs are two pieces
STANDARDISED = ('DetectoRS',)  # over the active weights, so a masked network is not the narrow one


def build(case: str) -> nn.Module:
    net = BACKBONES[case]().double()
    randomize(net)
    for layer in net.modules():
        if isinstance(layer, ConvAWS2d):
            layer.weight_gamma.abs_().add_(0.5)  # it computes others when it loads a mean that is not positive
    return net


def levels(net: nn.Module, training: bool = False) -> list[torch.Tensor]:
    net.train(training)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)  # of dropped paths
    return [level for level in net(images) if level.requires_grad]


@pytest.mark.parametrize('case', BACKBONES)
def test_everything_slims_and_full_width_is_stock_bit_for_bit(case):
    full = build(case)
    slim = copy.deepcopy(full)
    plan = plan_slimming(slim)
    assert plan.share > 0.99, str(plan)
    plan.apply_(WIDTHS)
    ours, theirs = levels(slim, training=True), levels(full, training=True)
    assert len(ours) and all(map(torch.equal, ours, theirs))
    for result in (ours, theirs):
        sum(level.square().mean() for level in result).backward()
    for mine, (name, other) in zip(slim.parameters(), full.named_parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        assert other.grad is None or torch.equal(mine.grad, other.grad), name
    state = slim.state_dict()
    assert all(torch.equal(state[name], value) for name, value in full.state_dict().items())


@pytest.mark.parametrize('case', [case for case in BACKBONES if case not in STANDARDISED])
def test_a_narrow_width_is_the_masked_full_network(case):
    net = build(case)
    mmmutual.make_slimmable_(net, WIDTHS)
    levels(net)
    assert_narrow_is_masked(net, lambda model: levels(model.requires_grad_()), WIDTHS)


@pytest.mark.parametrize('case', BACKBONES)
def test_a_narrow_width_is_exported_with_its_outputs(case):
    net = build(case)
    mmmutual.make_slimmable_(net, WIDTHS)
    with mmmutual.use_width(net, 0.5):
        levels(net, training=True)  # statistics of the width
        expected = levels(net)
    narrow_(net, 0.5)
    assert all(map(torch.equal, levels(net), expected))
    assert {type(module) for module in net.modules()} <= {type(module) for module in build(case).modules()}


CONFIGS = {
    'DCN': dict(STAGES, type='ResNet', dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=(False, True)),
    'DetectoRS': dict(STAGES, type='DetectoRS_ResNet', conv_cfg=dict(type='ConvAWS'), sac=dict(type='SAC')),
    'DetectoRS, grouped': dict(STAGES, type='DetectoRS_ResNeXt', groups=32, base_width=4, sac=dict(type='SAC')),
    'TridentResNet': dict(TRIDENT, type='TridentResNet', depth=50, test_branch_idx=1, out_indices=(2,)),
    'ResNeSt': dict(STAGES, type='ResNeSt', reduction_factor=2),
}


@pytest.mark.parametrize('case', CONFIGS)
def test_the_export_finds_the_stock_config_of_a_narrow_network(case):
    config = CONFIGS[case] | (dict(stage_with_sac=(False, True)) if 'sac' in CONFIGS[case] else {})
    net = MODELS.build(copy.deepcopy(config))
    mmmutual.make_slimmable_(net, WIDTHS)
    narrow_(net, 0.5, trained=False)
    narrow = MODELS.build(narrow_backbone(copy.deepcopy(config), 0.5))
    assert shapes(net) == shapes(narrow)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    ('case', 'build_narrow', 'parts'), [('DetectoRS', detectors, {}), ('ResNeSt', resnest, PIECES)]
)
def test_a_narrow_width_is_a_narrow_stock_network(case, build_narrow, parts, training):
    slim, narrow = build(case), build_narrow(0.5).double()
    mmmutual.make_slimmable_(slim, WIDTHS)
    share_statistics(slim)
    assert_narrow_is_stock(slim, narrow, parts, 0.5, training)
