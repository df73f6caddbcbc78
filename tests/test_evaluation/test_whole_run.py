"""Detectors with a transformer are counted in a run on an image."""

import copy

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.backbones.swin import WindowMSA
from mmdet.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmmutual
from mmmutual.deploy.narrow import narrow_
from mmmutual.evaluation.parameter_counts import count_parameters
from mmmutual.slimming.attention_costs import attention_multiply_adds
from tests.support.tiny_transformers import deformable_detr, detr, mask2former

SIZE = (64, 96)


@pytest.mark.parametrize('config', [detr, deformable_detr, mask2former])
def test_a_width_counts_as_the_narrow_detector(config):
    model = MODELS.build(config())
    mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    narrow = copy.deepcopy(model)
    narrow_(narrow, 0.5, trained=False)
    full = mmmutual.count_multiply_adds(model, SIZE)
    with mmmutual.use_width(model, 0.5):
        counts, parameters = mmmutual.count_multiply_adds(model, SIZE), count_parameters(model)
    assert counts == mmmutual.count_multiply_adds(narrow, SIZE)
    assert parameters == sum(parameter.numel() for parameter in narrow.parameters())
    assert counts['total'] >= sum(count for part, count in counts.items() if part != 'total') > 0
    assert counts['total'] < 0.4 * full['total']


def test_a_count_leaves_no_trace():
    model = MODELS.build(detr())
    mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [parameter.requires_grad for parameter in model.parameters()]
    with mmmutual.use_width(model, 0.5):
        mmmutual.count_multiply_adds(model, SIZE)
        assert mmmutual.get_width(model) == 0.5
    assert model.training and [parameter.requires_grad for parameter in model.parameters()] == trained
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_cost_of_a_window_attention():
    layer, x = WindowMSA(32, 4, (3, 3)), torch.rand(6, 9, 32)
    projections, products = 6 * 9 * 4 * 32 * 32, 2 * 6 * 9 * 9 * 32
    assert attention_multiply_adds(layer, [x]) == projections + products == counted(layer, x)


def test_the_cost_of_an_attention_to_other_tokens():
    layer = nn.MultiheadAttention(32, 4)
    query, keys = torch.rand(5, 2, 32), torch.rand(7, 2, 32)
    projections, products = (2 * 5 + 2 * 7) * 2 * 32 * 32, 2 * 2 * 5 * 7 * 32
    assert (
        attention_multiply_adds(layer, [query, keys, keys])
        == projections + products
        == counted(layer, query, keys, keys)
    )


def test_the_cost_of_a_deformable_attention():
    layer = MultiScaleDeformableAttention(32, 4, num_levels=1, num_points=2, batch_first=True)
    query, value = torch.rand(2, 5, 32), torch.rand(2, 12, 32)
    options = dict(
        value=value,
        reference_points=torch.rand(2, 5, 1, 2),
        spatial_shapes=torch.tensor([[3, 4]]),
        level_start_index=torch.tensor([0]),
    )
    places, values = 2 * 5 * 32 * (4 * 2 * 2 + 4 * 2 + 32), 2 * 12 * 32 * 32
    assert attention_multiply_adds(layer, [query, value]) == places + values == counted(layer, query, **options)


def counted(layer, *args, **kwargs):
    layer.train()  # without the fast path of nn.MultiheadAttention
    with FlopCounterMode(display=False) as counter:
        layer(*args, **kwargs)
    return counter.get_total_flops() // 2
