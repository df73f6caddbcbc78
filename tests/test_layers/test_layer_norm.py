"""Layer norms: stock at width 1.0, and below a stock norm of the active channels, with mean and variance of theirs."""

import copy

import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimLayerNorm, can_slim, slim_layer_
from tests.support.masked import randomize

OPTIONS = [dict(), dict(eps=0.1), dict(bias=False), dict(elementwise_affine=False)]
TWO = (Segment(8, 4), Segment.full(8))
ACTIVE = {None: [*range(8)], TWO: [*range(4), *range(8, 16)]}  # at width 0.5


def build(options: dict, channels: int = 16) -> nn.LayerNorm:
    norm = nn.LayerNorm(channels, **options)
    randomize(norm)
    return norm


@pytest.mark.parametrize('options', OPTIONS)
def test_full_width_is_stock_bit_for_bit(options):
    stock, x = build(options), torch.rand(2, 5, 16)
    slim, results = copy.deepcopy(stock), []
    slim_layer_(slim, (1.0, 0.5), TWO)
    for norm in (slim, stock):
        own = x.clone().requires_grad_()
        output = norm(own)
        output.square().sum().backward()
        results.append([output, own.grad, *(value.grad for value in norm.parameters())])
    assert all(map(torch.equal, *results))
    assert list(slim.state_dict()) == list(stock.state_dict())


@pytest.mark.parametrize('segments', [None, TWO])
@pytest.mark.parametrize('options', OPTIONS)
def test_a_narrow_width_is_a_narrow_stock_norm(options, segments):
    slim, channels = build(options), ACTIVE[segments]
    narrow = build(options, len(channels))
    narrow.load_state_dict({name: value[channels] for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), segments)
    mmmutual.set_width(slim, 0.5)
    x = torch.rand(2, 5, len(channels))
    assert torch.equal(slim(x), narrow(x))
    for norm in (slim, narrow):
        norm(x).square().sum().backward() if options.get('elementwise_affine', True) else None
    for ours, theirs in zip(slim.parameters(), narrow.parameters()):
        assert torch.equal(ours.grad[channels], theirs.grad) and ours.grad.count_nonzero() <= len(channels)
    assert slim(torch.rand(2, 5, 16)).shape == (2, 5, 16)  # all channels are allowed at every width


def test_built_with_the_arguments_of_stock():
    slim = SlimLayerNorm(16, eps=1e-3, bias=False, dtype=torch.double)
    stock = nn.LayerNorm(16, eps=1e-3, bias=False, dtype=torch.double)
    assert slim.bias is None and slim.segments is None and slim.channels == 16
    x = torch.rand(2, 16, dtype=torch.double)
    assert torch.equal(slim(x), stock(x))


def test_errors():
    norm = SlimLayerNorm(16)
    with pytest.raises(ValueError, match=r'add up to the 16 channels of SlimLayerNorm\(.*but got \[8\]'):
        norm.divide((Segment(8),))
    mmmutual.set_width(norm, 0.5)
    text = r'input has 12 channels, but SlimLayerNorm.*accepts the 8 active ones or all 16 at width 0\.5'
    with pytest.raises(ValueError, match=text):
        norm(torch.rand(2, 12))
    with pytest.raises(ValueError, match=r'input has 17 channels, but SlimLayerNorm.*accepts at most 16'):
        norm(torch.rand(2, 17))
    norm.divide(TWO)
    with pytest.raises(ValueError, match=r'input has 8 channels.*accepts \[4, 8\] of its segments \[8, 8\] at width'):
        norm(torch.rand(2, 8))


def test_a_norm_over_several_dimensions_stays_stock():
    assert can_slim(nn.LayerNorm(16)) and not can_slim(nn.LayerNorm((16, 4)))
