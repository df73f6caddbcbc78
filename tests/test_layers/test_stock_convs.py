"""Convolutions with a special forward: stock at width 1.0, and a narrow stock layer of the first channels below."""

import copy

import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks.conv_ws import ConvAWS2d
from mmcv.ops import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d, ModulatedDeformConv2dPack, SAConv2d
from mmdet.models.backbones.trident_resnet import TridentConv
from torch import nn

import mmmutual
from mmmutual.layers import Segment, slim_layer_
from mmmutual.layers.stock_convs import SlimConvAWS2d
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import randomize
from tests.support.narrow import first_channels

KINDS = {
    'adaptive padding': lambda i, o: Conv2dAdaptivePadding(i, o, 3, stride=2),
    'adaptive padding, depthwise': lambda i, o: Conv2dAdaptivePadding(i, i, 5, stride=2, groups=i, bias=False),
    'three branches': lambda i, o: TridentConv(i, o, 3),
    'one branch with bias': lambda i, o: TridentConv(i, o, 3, bias=True).eval(),
    'ConvAWS': lambda i, o: ConvAWS2d(i, o, 3, padding=1),
    'ConvAWS, grouped': lambda i, o: ConvAWS2d(i, o, 3, groups=i // 4, bias=False),
    'SAC': lambda i, o: SAConv2d(i, o, 3, stride=2, padding=1),
    'SAC, deformable': lambda i, o: SAConv2d(i, o, 3, padding=1, bias=False, use_deform=True),
    'SAC, grouped': lambda i, o: SAConv2d(i, o, 3, padding=1, groups=i // 4, use_deform=True),
    'offsets from outside': lambda i, o: DeformConv2d(i, o, 3, padding=1),
    'offsets and masks from outside': lambda i, o: ModulatedDeformConv2d(i, o, 3, padding=1),
    'DCN': lambda i, o: DeformConv2dPack(i, o, 3, stride=2, padding=1),
    'DCN, grouped': lambda i, o: DeformConv2dPack(i, o, 3, padding=1, groups=i // 4),
    'DCNv2': lambda i, o: ModulatedDeformConv2dPack(i, o, 3, padding=1),
    'DCNv2, grouped': lambda i, o: ModulatedDeformConv2dPack(i, o, 3, padding=2, dilation=2, groups=i // 4, bias=False),
}


def build(kind: str, inputs: int = 16, outputs: int = 32) -> nn.Module:
    layer = KINDS[kind](inputs, outputs).double()
    randomize(layer)
    if isinstance(layer, ConvAWS2d):
        layer.weight_gamma.abs_().add_(0.5)  # it computes others when it loads a mean that is not positive
    return layer


def backward(layer: nn.Module, x: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The outputs and the gradient of the input, and the gradients of the parameters by name."""
    x = x.clone().requires_grad_()
    if isinstance(layer, TridentConv):
        out = layer([x, x.roll(1), x.roll(2)] if layer.training else [x])
        assert isinstance(out, list)
    elif hasattr(layer, 'deform_groups') and not hasattr(layer, 'conv_offset'):
        sizes = (18, 9) if isinstance(layer, ModulatedDeformConv2d) else (18,)
        out = layer(x, *map(noise, sizes))
    else:
        out = layer(x)
    sum(each.square().sum() for each in tensors_in([out])).backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}
    return [*tensors_in([out]), x.grad], gradients


def noise(channels: int) -> torch.Tensor:
    return torch.rand(2, channels, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('kind', KINDS)
def test_full_width_is_stock_bit_for_bit(kind):
    stock = build(kind)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5))
    ours, theirs = backward(slim, noise(16)), backward(stock, noise(16))
    assert all(map(torch.equal, ours[0], theirs[0])) and ours[1].keys() == theirs[1].keys()
    assert all(torch.equal(ours[1][name], gradient) for name, gradient in theirs[1].items())


@pytest.mark.parametrize('kind', KINDS)
def test_a_narrow_width_is_the_narrow_stock_layer_with_the_first_channels(kind):
    slim, narrow = build(kind), build(kind, 8, 16)
    slim_layer_(slim, (1.0, 0.5))
    narrow.load_state_dict({name: first_channels(slim.state_dict()[name], value.shape) for name, value in
                            narrow.state_dict().items()})  # fmt: skip
    before = vars(slim).copy()
    with mmmutual.use_width(slim, 0.5):
        ours, theirs = backward(slim, noise(8)), backward(narrow, noise(8))
    for mine, other in zip(ours[0], theirs[0], strict=True):
        torch.testing.assert_close(mine, other)
    for name, gradient in theirs[1].items():
        part = first_channels(ours[1][name], gradient.shape)
        torch.testing.assert_close(part, gradient, msg=lambda m, name=name: f'{name}: {m}')
        torch.testing.assert_close(ours[1][name].abs().sum(), part.abs().sum())
    assert vars(slim).keys() - before.keys() <= {'width', '_forwards'}
    assert all(vars(slim)[name] is value for name, value in before.items())


def test_another_number_of_channels_is_refused_and_changes_nothing():
    layer = build('SAC')
    slim_layer_(layer, (1.0, 0.5))
    mmmutual.set_width(layer, 0.5)
    with pytest.raises(ValueError, match='(?s)the input has 12 channels, but SlimSAConv2d.* accepts the 8 active ones'):
        layer(noise(12))
    with pytest.raises(ValueError, match='accepts the 8 active ones'):
        slim_layer_(three := build('three branches'), (1.0, 0.5))
        mmmutual.set_width(three, 0.5)
        three([noise(12)] * 3)


def test_segments_without_neighbours_are_active():
    layer = build('SAC, deformable')
    two = (Segment(8, 4), Segment(8, 4))
    slim_layer_(layer, (1.0, 0.5), two, (Segment(16, 4), Segment(16, 4)))
    mmmutual.set_width(layer, 0.5)
    narrow, places = build('SAC, deformable', 8, 16), {16: [0, 1, 2, 3, 8, 9, 10, 11], 32: [*range(8), *range(16, 24)]}
    state = layer.state_dict()
    for name, value in narrow.state_dict().items():
        for dim, size in enumerate(value.shape[:2]):
            if state[name].size(dim) != size:
                state[name] = state[name].index_select(dim, torch.tensor(places[state[name].size(dim)]))
    narrow.load_state_dict(state)
    torch.testing.assert_close(layer(noise(8)), narrow(noise(8)))


def test_a_layer_can_be_built_slimmable_and_loads_stock_weights_without_standardisation():
    """ConvAWS keeps the mean and deviation of such weights."""
    layer, weight = SlimConvAWS2d(16, 32, 3, bias=False), torch.rand(32, 16, 3, 3)
    layer.load_state_dict({'weight': weight})
    x = torch.rand(1, 16, 8, 8)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, weight), rtol=1e-4, atol=1e-4)
    mmmutual.set_width(layer, 0.5)
    assert layer(x[:, :8]).shape == (1, 16, 6, 6)


@pytest.mark.parametrize('kind', KINDS)
def test_mmengine_initialises_by_the_same_names(kind):
    """Those of the class and of its direct bases."""
    layer = build(kind)
    stock = type(layer)
    slim_layer_(layer, (1.0, 0.5))
    assert {stock, *stock.__bases__} <= {*type(layer).__bases__, nn.Module}
