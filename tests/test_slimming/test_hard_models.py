"""What people write in models: a narrow network is the full one with some channels absent, whatever they do."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmmutual
from mmmutual.slimming import plan_slimming
from tests.support.masked import WIDTHS
from tests.support.toy_detector import CHANNELS, SIZE, Mean, Net, between, conv, shuffle, slimming, tokens


class Attention(nn.Module):
    """Attention of several heads, written by hand."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fixed = conv(outputs=3 * CHANNELS), conv(), fixed

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        size = 8 if self.fixed else -1
        heads = self.qkv(x).flatten(2).transpose(1, 2).reshape(batch, height * width, 3, 4, size)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / 3).softmax(-1)
        return self.out((weights @ value).transpose(2, 3).reshape(batch, -1, height, width))


def test_mixing_right_behind_the_backbone_leaves_nothing_that_slims():
    for scope in ('backbone', 'detector'):
        with pytest.raises(ValueError, match='Conv2d cannot be made slimmable: softmax mixes channels, or may do so'):
            plan_slimming(Net(lambda net, x: net.last(x.softmax(1)), last=conv()), scope)


@pytest.mark.parametrize('fixed', [True, False])
def test_own_attention(fixed):
    """It divides its channels among heads, with their number or with -1; its values could slim with one head only."""
    model = Net(lambda net, x: net.last(net.attention(x)), attention=Attention(fixed), last=conv(outputs=4))
    assert slimming(model) == {'backbone', 'attention.out'}


def test_linear_attention_of_pixels():
    """What weighs the pixels has full outputs, the values slim."""

    def head(net, x):
        weights = (tokens(net.query(x)) @ net.query(x).flatten(2)).softmax(-1)
        return net.last((net.value(x).flatten(2) @ weights).view_as(x[:, :1].expand(-1, net.value(x).size(1), -1, -1)))

    assert slimming(Net(head, query=conv(), value=conv(), last=conv(outputs=4))) == {'backbone', 'value'}


def test_hooks_of_others_see_the_narrow_network():
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: output * output.mean(1, keepdim=True))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: shuffle(output))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.last.register_forward_pre_hook(lambda layer, args: (shuffle(args[0]),))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: output.relu())
    assert slimming(model) == {'backbone', 'first'}


def test_a_forward_that_was_replaced_stays():
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv(outputs=4))
    second = model.second
    second.forward = lambda x: F.conv2d(x, second.weight).flip(1)
    assert plan_slimming(model, 'detector').layers[2].reason == 'Conv2d needs all of its channels'
    assert [layer.slims_out for layer in plan_slimming(model, 'detector').layers] == [True, False, False, False]


def test_weights_that_are_made_in_each_forward():
    """The older functions keep the class of the layer, and hooks make its weight; the newer ones make a class."""
    for norm in (torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm):
        model = between(lambda net, x: x)
        norm(model.first)
        assert slimming(model) == {'backbone', 'first'}
    for norm in (torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.parametrizations.spectral_norm):
        model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv())
        norm(model.second)
        assert slimming(model) == {'backbone'}


@pytest.mark.parametrize('make', [torch.jit.script, lambda part: torch.jit.trace(part, torch.rand(1, 32, 4, 4))])
@pytest.mark.parametrize('part', [nn.Softmax(1), nn.Sequential(conv(), nn.ReLU())])
def test_scripts_take_all(make, part):
    assert slimming(between(lambda net, x: x * net.script(x), script=make(copy.deepcopy(part)))) == {'backbone'}


def test_layers_that_are_shared():
    def head(net, x):
        return torch.cat((net.last(net.first(x)), net.last(net.second(x).tanh())), 2)

    assert slimming(Net(head, first=conv(), second=conv(), last=conv(outputs=4))) == {'backbone', 'first', 'second'}

    def mixed(net, x):
        return torch.cat((net.last(net.first(x)), net.last(shuffle(net.second(x)))), 2)

    assert slimming(Net(mixed, first=conv(), second=conv(), last=conv(outputs=4))) == {'backbone'}


def test_weights_that_are_shared():
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv(outputs=4))
    model.second.weight = model.first.weight
    assert slimming(model) == {'backbone', 'first', 'second'}
    model = Net(
        lambda net, x: F.conv2d(net.first(x), net.last.weight) + net.last(net.first(x)), first=conv(), last=conv()
    )
    assert slimming(model) == {'backbone'}


def test_lists_of_parameters_are_no_layers():
    model = between(
        lambda net, x: x * net.gains[0] + net.more['a'],
        gains=nn.ParameterList([torch.rand(CHANNELS, 1, 1)]),
        more=nn.ParameterDict({'a': torch.rand(CHANNELS, 1, 1)}),
    )
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x * net.gains[0], gains=nn.ParameterList([torch.rand(1)]), more=nn.Module())
    model.more.weight = nn.Parameter(torch.rand(8))
    assert slimming(model) == {'backbone', 'first'}


@pytest.mark.parametrize(
    'layer', [nn.LayerNorm((CHANNELS, SIZE, SIZE)), nn.PReLU(CHANNELS), nn.InstanceNorm2d(CHANNELS, affine=True)]
)
def test_layers_that_cannot_slim_take_all(layer):
    model = between(lambda net, x: net.layer(x), layer=layer)
    assert slimming(model) == {'backbone'}
    assert f'{type(layer).__name__} needs all of its channels' in plan_slimming(model, 'detector').reasons


def test_padding_modes():
    options = dict(padding=1, kernel_size=3)
    first = nn.Conv2d(CHANNELS, CHANNELS, padding_mode='circular', **options)
    second = nn.Conv2d(CHANNELS, CHANNELS, padding_mode='reflect', **options)
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=first, second=second, last=conv())
    assert slimming(model) == {'backbone', 'first', 'second'}


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    model = between(lambda net, x: x.mean((2, 3), keepdim=True) + x.relu()).to(dtype).eval()
    assert {plan.name for plan in plan_slimming(model, 'detector').layers if plan.slims_out} == {'backbone', 'first'}
    model = between(lambda net, x: x * Mean.apply(x.float()).to(x)).to(dtype).eval()
    assert {plan.name for plan in plan_slimming(model, 'detector').layers if plan.slims_out} == {'backbone'}


def test_a_model_without_memory():
    plans = []
    for device in ('cpu', 'meta'):
        with torch.device(device):
            model = between(lambda net, x: torch.cat((x.relu(), x.softmax(1)), 1), 2 * CHANNELS, norm=nn.BatchNorm2d(4))
        plans.append(plan_slimming(model, 'detector'))
    ours, theirs = [[(layer.inputs, layer.outputs) for layer in plan.layers] for plan in plans]
    assert ours == theirs
    plans[1].apply_(WIDTHS)
    assert isinstance(model.first, mmmutual.layers.SlimConv2d)


def test_a_copy_can_be_undone_and_pickled():
    model = Net(lambda net, x: net.last(x), last=conv())
    model.head = None
    mmmutual.make_slimmable_(model.backbone, WIDTHS)
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    mmmutual.undo_slimmable_(other)
    assert type(other.backbone) is nn.Conv2d and 'width' not in vars(other.backbone)
    assert type(model.backbone) is not nn.Conv2d
