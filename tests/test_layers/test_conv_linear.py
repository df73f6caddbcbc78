import copy

import pytest
import torch
from mmcv.cnn import build_conv_layer
from torch import nn

import mmmutual
from mmmutual.layers import SlimConv2d, SlimLinear


def backward(layer, x):
    """Output, and gradients of input and parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize('padding_mode', ['zeros', 'reflect', 'circular'])
@pytest.mark.parametrize('groups', [1, 4, 16])
def test_full_width_is_the_stock_convolution_bit_for_bit(groups, padding_mode):
    arguments = dict(stride=2, padding=2, dilation=2, groups=groups, padding_mode=padding_mode)
    slim, stock = SlimConv2d(16, 32, 3, **arguments), nn.Conv2d(16, 32, 3, **arguments)
    slim.load_state_dict(stock.state_dict())
    x = torch.rand(2, 16, 9, 9)
    for ours, theirs in zip(backward(slim, x), backward(stock, x)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('slim_out', [True, False])
@pytest.mark.parametrize('width', [0.75, 0.5, 0.25])
def test_narrow_convolution_uses_the_first_channels(width, slim_out):
    slim = SlimConv2d(32, 64, 3, padding=1, slim_out=slim_out)
    mmmutual.set_width(slim, width)
    inputs, outputs = int(32 * width), int(64 * width) if slim_out else 64
    narrow = nn.Conv2d(inputs, outputs, 3, padding=1)
    narrow.weight.data, narrow.bias.data = slim.weight.data[:outputs, :inputs], slim.bias.data[:outputs]
    out, grad_x, grad_weight, grad_bias = backward(slim, x := torch.rand(2, inputs, 8, 8))
    reference = backward(narrow, x)
    for ours, theirs in zip((out, grad_x, grad_weight[:outputs, :inputs], grad_bias[:outputs]), reference):
        torch.testing.assert_close(ours, theirs)
    assert grad_weight[outputs:].abs().sum() == grad_weight[:, inputs:].abs().sum() == 0


@pytest.mark.parametrize(('groups', 'active_in', 'active_out'), [(16, 8, 16), (4, 8, 16)])
def test_groups_follow_the_input(groups, active_in, active_out):
    slim = SlimConv2d(16, 32, 3, groups=groups, bias=False)
    x = torch.rand(1, active_in, 5, 5)
    narrow = nn.Conv2d(active_in, active_out, 3, groups=groups // 2, bias=False)
    narrow.weight.data = slim.weight.data[:active_out]
    torch.testing.assert_close(slim(x), narrow(x))


@pytest.mark.parametrize('slim_out', [True, False])
def test_narrow_linear_uses_the_first_features(slim_out):
    slim = SlimLinear(32, 16, slim_out=slim_out)
    mmmutual.set_width(slim, 0.5)
    outputs = 8 if slim_out else 16
    x = torch.rand(3, 5, 16)
    torch.testing.assert_close(slim(x), x @ slim.weight[:outputs, :16].T + slim.bias[:outputs])


def test_linear_full_width_is_stock():
    slim, stock, x = SlimLinear(6, 5), nn.Linear(6, 5), torch.rand(2, 6)
    slim.load_state_dict(stock.state_dict())
    for ours, theirs in zip(backward(slim, x), backward(stock, x)):
        assert torch.equal(ours, theirs)


def test_errors_name_the_layer():
    with pytest.raises(ValueError, match=r'input has 64 channels, but SlimConv2d\(32, 8.*at most 32'):
        SlimConv2d(32, 8, 1)(torch.rand(1, 64, 4, 4))
    with pytest.raises(ValueError, match='6 channels, which are not whole groups of 4 channels'):
        SlimConv2d(16, 16, 1, groups=4)(torch.rand(1, 6, 4, 4))
    with pytest.raises(ValueError, match='slim_out=False is impossible with groups=4'):
        SlimConv2d(16, 16, 1, groups=4, slim_out=False)
    with pytest.raises(ValueError, match=r'input has 9 features, but SlimLinear\(in_features=8'):
        SlimLinear(8, 8)(torch.rand(1, 9))


def test_built_by_conv_cfg_and_shown():
    layer = build_conv_layer(dict(type='SlimConv2d', slim_out=False), 8, 16, 1)
    assert isinstance(layer, SlimConv2d)
    assert 'slim_out=False' in repr(layer)
    assert 'slim_out' not in repr(SlimConv2d(8, 8, 1))
    assert 'slim_out=False' in repr(SlimLinear(8, 8, slim_out=False))


def test_a_deep_copy_has_a_width_of_its_own():
    layer = SlimConv2d(8, 32, 1)
    twin = copy.deepcopy(layer)
    mmmutual.set_width(layer, 0.5)
    assert twin.width == 1.0
