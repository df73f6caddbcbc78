"""Swin and PVT against mmdet's: bit for bit at width 1.0, with published weights, and built narrow."""

import copy

import pytest
import torch
from mmdet.models import backbones as stock
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import nn

import mmmutual
from mmmutual.deploy import narrow_
from mmmutual.models.backbones import SlimmableSwin
from mmmutual.slimming import plan_slimming
from tests.support.backbones import run
from tests.support.masked import randomize
from tests.support.narrow import assert_same_gradients, carry_weights

WIDTHS = (1.0, 2 / 3, 0.5, 0.25)
PARTS = {r'\.qkv\.|in_proj': (3, 1)}  # queries, keys and values
SWIN = dict(depths=(2, 2), strides=(4, 2), out_indices=(0, 1), drop_path_rate=0.0)
PVT = dict(embed_dims=16, num_layers=[1] * 4, mlp_ratios=[2] * 4, pretrain_img_size=64, drop_path_rate=0.0)

# slimmable class: its stock class, fixed arguments, those at width 1.0, a narrow width, those of the narrow network
CASES = {
    'SlimmableSwin': (
        stock.SwinTransformer,
        SWIN,
        dict(embed_dims=96, num_heads=(3, 6)),
        2 / 3,
        dict(embed_dims=64, num_heads=(2, 4)),
    ),
    'SlimmablePVT': (
        stock.PyramidVisionTransformer,
        PVT,
        dict(num_heads=[2, 2, 4, 4]),
        0.5,
        dict(num_heads=[1, 1, 2, 2]),
    ),
    'SlimmablePVTv2': (
        stock.PyramidVisionTransformerV2,
        {name: value for name, value in PVT.items() if name != 'pretrain_img_size'},
        dict(num_heads=[2, 2, 4, 4]),
        0.5,
        dict(num_heads=[1, 1, 2, 2]),
    ),
}


def build(case: str, **options) -> nn.Module:
    _, fixed, full, *_ = CASES[case]
    return MODELS.build(ConfigDict(type=case, widths=WIDTHS, **fixed, **full, **options))


def build_stock(case: str, **options) -> nn.Module:
    kind, fixed, full, *_ = CASES[case]
    return kind(**copy.deepcopy(fixed), **full, **options)


@pytest.mark.parametrize('case', CASES)
def test_full_width_is_stock_bit_for_bit(case):
    slim, full = build(case), build_stock(case)
    randomize(full)
    slim.load_state_dict(full.state_dict(), strict=True)
    images = torch.rand(2, 3, 64, 64)
    assert all(map(torch.equal, run(slim, images), run(full, images)))
    ours, theirs = dict(slim.named_parameters()), dict(full.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name].grad, parameter.grad) for name, parameter in theirs.items())


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_a_narrow_width_is_a_narrow_stock_network(case, training):
    kind, fixed, _, width, narrow = CASES[case]
    slim, narrow = build(case).double(), kind(**copy.deepcopy(fixed), **narrow).double()
    randomize(slim)
    mmmutual.set_width(slim, width)
    carry_weights(slim, narrow, PARTS)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(run(slim, images, training), run(narrow, images, training), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert_same_gradients(slim, narrow, PARTS)


@pytest.mark.parametrize('case', CASES)
def test_all_layers_slim_and_a_cut_is_stock(case):
    slim = build(case).double()
    slim.eval()
    randomize(slim)
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad(), mmmutual.use_width(slim, 0.25):
        expected = slim(images)
    full = [parameter.numel() for parameter in slim.parameters()]
    plan = plan_slimming(slim)  # again
    assert plan.share == 1 and not plan.blocks
    narrow_(slim, 0.25)
    with torch.no_grad():
        for ours, theirs in zip(slim(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert all(parameter.numel() < before for parameter, before in zip(slim.parameters(), full))


@pytest.mark.parametrize('case', CASES)
def test_same_seed_same_initial_weights_as_stock(case):
    states = []
    for make in (build, build_stock):
        torch.manual_seed(3)
        model = make(case)
        model.init_weights()
        states.append(model.state_dict())
    assert all(torch.equal(value, states[0][name]) for name, value in states[1].items())


def test_the_names_follow_the_stock_classes():
    for case, (kind, *_) in CASES.items():
        assert MODELS.get(case).__name__ == f'Slimmable{kind.__name__}'
        assert MODELS.get(f'Slimmable{kind.__name__}') is MODELS.get(case)


ORIGINAL = {  # names of the layers in Swin's published checkpoints
    'stages.': 'layers.',
    '.w_msa.': '.',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
    'projection.': 'proj.',
}


def test_published_swin_weights_load(tmp_path):
    """In the layout of Swin's authors, which mmdet converts."""
    weights = {}
    for name, value in build_stock('SlimmableSwin').state_dict().items():
        for ours, theirs in ORIGINAL.items():
            name = name.replace(ours, theirs)
        if not name.startswith('norm'):
            weights[name] = torch.randn_like(value) if value.is_floating_point() else value
    weights.update({'norm.weight': torch.ones(192), 'head.weight': torch.ones(1000, 192)})
    torch.save(dict(model=weights), tmp_path / 'swin.pth')
    init_cfg = ConfigDict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth'))
    slim, full = (make('SlimmableSwin', convert_weights=True, init_cfg=init_cfg) for make in (build, build_stock))
    for model in (slim, full):
        model.init_weights()
    state = slim.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in full.state_dict().items())
    assert torch.equal(state['stages.0.blocks.1.ffn.layers.1.weight'], weights['layers.0.blocks.1.mlp.fc2.weight'])
    assert not torch.equal(state['stages.0.downsample.norm.weight'], weights['layers.0.downsample.norm.weight'])


def test_frozen_stages_and_absolute_positions():
    options = dict(pretrain_img_size=64, use_abs_pos_embed=True, frozen_stages=1)
    model = SlimmableSwin(**SWIN, embed_dims=48, num_heads=(3, 6), widths=WIDTHS, **options)
    model.train()
    assert not model.stages[0].blocks[0].attn.w_msa.qkv.weight.requires_grad and model.stages[1].training
    nn.init.normal_(model._parameters['absolute_pos_embed'])
    images = torch.rand(1, 3, 64, 64)
    model.eval()
    with mmmutual.use_width(model, 0.5):
        assert model.absolute_pos_embed.size(-1) == 24 and model.num_features == [24, 48]
        expected = model(images)
    narrow_(model, 0.5)
    assert type(model) is stock.SwinTransformer and model.absolute_pos_embed.shape == (1, 256, 24)
    for ours, theirs in zip(model(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
