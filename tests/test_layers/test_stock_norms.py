"""Norms without statistics per width: stock at width 1.0, and a narrow stock norm of the active channels below."""

import copy

import pytest
import torch
from mmdet.models.layers import FrozenBatchNorm2d
from mmdet.models.necks.ssd_neck import L2Norm
from torch import nn

import mmmutual
from mmmutual.layers import Segment, slim_layer_
from mmmutual.layers.stock_norms import SlimFrozenBatchNorm2d, SlimL2Norm
from tests.support.masked import randomize

KINDS = {'frozen batch norm': FrozenBatchNorm2d, 'L2 norm': L2Norm}
TWO = (Segment(8, 4), Segment(8, 4))
ACTIVE = {None: [*range(8)], TWO: [*range(4), *range(8, 12)]}


def build(kind: str, channels: int = 16) -> nn.Module:
    norm = KINDS[kind](channels)
    randomize(norm)
    return norm


@pytest.mark.parametrize('kind', KINDS)
def test_full_width_is_stock_bit_for_bit(kind):
    stock, x = build(kind), torch.rand(2, 16, 5, 5)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), (Segment(16),))
    assert torch.equal(slim(x), stock(x))
    for norm in (slim, stock):
        norm(x.requires_grad_()).square().sum().backward()
    assert all(torch.equal(ours.grad, theirs.grad) for ours, theirs in zip(slim.parameters(), stock.parameters()))


@pytest.mark.parametrize('segments', [None, TWO])
@pytest.mark.parametrize('kind', KINDS)
def test_a_narrow_width_has_the_active_part(kind, segments):
    slim, narrow, x = build(kind), build(kind, 8), torch.rand(2, 8, 5, 5)
    narrow.load_state_dict({name: value[ACTIVE[segments]] for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), segments)
    mmmutual.set_width(slim, 0.5)
    assert torch.equal(slim(x), narrow(x))
    with pytest.raises(ValueError, match='the input has 4 channels, but .* accepts'):
        slim(x[:, :4])


def test_segments_must_add_up():
    with pytest.raises(ValueError, match=r'segments must add up to the 16 channels of SlimL2Norm\(\), but got \[8\]'):
        SlimL2Norm(16).divide((Segment(8),))
    assert SlimFrozenBatchNorm2d(16).segments is None
