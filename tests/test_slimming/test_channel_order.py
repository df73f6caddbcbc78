"""An order of the channels leaves the function, in all kinds of layers; hidden channels are exactly the permuted ones."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, SAConv2d
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from mmdet.models.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn.utils import parametrizations, prune

import mmmutual
from mmmutual.slimming import ChannelOrder, check_order, order_channels_, plan_slimming
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import randomize
from tests.support.toy_detector import CHANNELS, Net, between, conv, tokens

IMAGES = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs_of(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in tensors_in(model(IMAGES))]


def ordered(model: nn.Module, scope: str = 'detector', **options) -> ChannelOrder:
    """The order of a model, after its outputs were found to be the same."""
    model.double().eval()
    randomize(model)
    before = outputs_of(model)
    order = order_channels_(model, plan_slimming(model, scope), **options)
    for ours, theirs in zip(outputs_of(model), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    return order


def two(first: nn.Module, second: nn.Module) -> Net:
    """Two layers in a row between two convolutions."""
    return Net(
        lambda net, x: net.last(net.second(net.middle(net.first(x)))),
        first=conv(),
        middle=first,
        second=second,
        last=conv(CHANNELS, 4),
    )


def is_moved(order: ChannelOrder, name: str, dim: int = 0) -> bool:
    index = order.places[name][dim]
    assert index.sort().values.tolist() == list(range(len(index)))
    return not torch.equal(index, index.sort().values)


def concatenated(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.last(torch.cat((net.first(x), x, net.second(x)), 1))


def shared(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.last(net.second(net.first(net.first(x).relu())))


MODELS = {
    'convolutions': lambda: between(lambda net, x: x.relu()),
    'residual': lambda: between(lambda net, x: x + net.second(x), second=conv()),
    'batch norm': lambda: between(lambda net, x: net.norm(x), norm=nn.BatchNorm2d(CHANNELS)),
    'group norm': lambda: between(lambda net, x: net.norm(x), norm=nn.GroupNorm(8, CHANNELS)),
    'two group norms': lambda: two(nn.GroupNorm(8, CHANNELS), nn.GroupNorm(16, CHANNELS)),
    'depthwise': lambda: between(lambda net, x: net.deep(x), deep=conv(groups=CHANNELS)),
    'depthwise, more outputs': lambda: between(
        lambda net, x: net.deep(x), 2 * CHANNELS, deep=conv(outputs=2 * CHANNELS, groups=CHANNELS)
    ),
    'grouped, fewer outputs': lambda: between(lambda net, x: net.deep(x), 16, deep=conv(outputs=16, groups=8)),
    'grouped, more outputs': lambda: between(lambda net, x: net.deep(x), 48, deep=conv(outputs=48, groups=8)),
    'grouped and group norm': lambda: two(conv(groups=8), nn.GroupNorm(4, CHANNELS)),
    'grouped behind a concatenation': lambda: between(
        lambda net, x: net.deep(torch.cat((x, net.second(x)), 1)),
        96,
        second=conv(),
        deep=conv(2 * CHANNELS, 96, groups=16),
    ),
    'transposed': lambda: between(lambda net, x: net.up(x), 16, up=nn.ConvTranspose2d(CHANNELS, 16, 2, stride=2)),
    'linear': lambda: Net(
        lambda net, x: net.last(F.gelu(net.first(tokens(x)))), first=nn.Linear(CHANNELS, 64), last=nn.Linear(64, 4)
    ),
    'flattened': lambda: Net(
        lambda net, x: net.last(net.first(x).flatten(1)), first=conv(), last=nn.Linear(16 * CHANNELS, 4)
    ),
    'concatenation': lambda: Net(concatenated, first=conv(), second=conv(), last=conv(3 * CHANNELS, 4)),
    'chunks': lambda: between(lambda net, x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid(), CHANNELS // 2),
    'twice': lambda: between(lambda net, x: torch.cat((x, x), 1), 2 * CHANNELS),
    'pairs': lambda: between(lambda net, x: torch.stack((x, -x), 2).flatten(1, 2), 2 * CHANNELS),
    'shared layer': lambda: Net(shared, first=conv(), second=conv(), last=conv(CHANNELS, 4)),
    'ConvWS': lambda: between(lambda net, x: net.ws(x), ws=ConvWS2d(CHANNELS, CHANNELS, 1)),
    'SAC': lambda: two(SAConv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
    'SAC, grouped': lambda: two(SAConv2d(CHANNELS, CHANNELS, 3, padding=1, groups=8, use_deform=True), nn.ReLU()),
    'DCN': lambda: two(DeformConv2dPack(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
    'split attention': lambda: two(SplitAttentionConv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
    'DCNv2, grouped': lambda: two(
        ModulatedDeformConv2dPack(CHANNELS, CHANNELS, 3, padding=1, groups=8), FrozenBatchNorm2d(CHANNELS)
    ),
}


@pytest.mark.parametrize('kind', MODELS)
def test_the_function_stays(kind):
    order = ordered(MODELS[kind]())
    assert is_moved(order, 'backbone.weight') and is_moved(order, 'last.weight', 1)


@pytest.mark.parametrize(
    'kind', ['convolutions', 'batch norm', 'depthwise, more outputs', 'concatenation', 'flattened']
)
def test_sums_without_rounding_stay_bit_for_bit(kind):
    """With small whole numbers, each sum is exact. Hidden channels are exactly the former ones in their new order."""
    model = MODELS[kind]().double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith('running_var'):
            value.fill_(1)
        elif value.is_floating_point():
            value.data = torch.randint(-3, 4, value.shape, generator=generator).double()
    images, hidden = torch.randint(0, 9, (2, 3, 64, 64), generator=generator).double(), []
    if hasattr(model, 'norm'):
        model.norm.eps = 0.0
    model.first.register_forward_hook(lambda layer, args, output: hidden.append(output))
    with torch.no_grad():
        before = model(images)
        order = order_channels_(model, plan_slimming(model, 'detector'))
        after = model(images)
    assert torch.equal(after, before) and before.unique().numel() >= 8
    assert is_moved(order, 'first.weight')
    assert torch.equal(hidden[-1], hidden[0].index_select(1, order.places['first.weight'][0]))


def test_the_most_important_channels_are_first():
    model = between(lambda net, x: x.relu())
    order = ordered(model)
    scores = model.last.weight.abs().sum((0, 2, 3))
    assert torch.equal(scores.argsort(descending=True), torch.arange(CHANNELS))
    assert order.groups == 2


def test_neighbours_in_a_group_norm_stay_together():
    order = ordered(MODELS['two group norms']())
    index = order.places['first.weight'][0].view(-1, 4)  # of the larger groups
    assert torch.equal(index, index[:, :1] + torch.arange(4)) and torch.equal(index[:, 0] % 4, torch.zeros(8).long())


def test_pixels_of_a_flattened_channel_stay_together():
    order = ordered(MODELS['flattened']())
    index = order.places['last.weight'][1].view(CHANNELS, 16)
    assert torch.equal(index, order.places['first.weight'][0][:, None] * 16 + torch.arange(16))


def test_channels_that_others_need_in_their_place_stay():
    """Predictions, the input of a stock layer, and channels that meet a tensor with a value for each of them."""

    def head(net, x):
        return net.last(net.second(net.norm(net.first(x).movedim(1, -1)).movedim(-1, 1) * net.gain))

    model = Net(head, first=conv(), norm=nn.LayerNorm(CHANNELS), second=conv(), last=conv(CHANNELS, 4))
    model.gain = nn.Parameter(torch.rand(CHANNELS, 1, 1))
    order = ordered(model)
    assert set(order.places) == {
        'backbone.weight',
        'backbone.bias',
        'first.weight',
        'second.weight',
        'second.bias',
        'last.weight',
    }
    assert 0 not in order.places['first.weight'] and 0 not in order.places['last.weight']


def test_the_outputs_of_a_backbone_that_is_planned_alone_keep_their_order():
    model = nn.Sequential(conv(3, 32), nn.BatchNorm2d(32), conv(32, 32)).double().eval()
    randomize(model)
    before = outputs_of(model)
    order = order_channels_(model)
    torch.testing.assert_close(outputs_of(model), before)
    assert order.groups == 1 and set(order.places['2.weight']) == {1}


def test_tied_parameters_are_ordered_once():
    model = Net(
        lambda net, x: net.last(net.second(x) + net.third(x)), second=conv(), third=conv(), last=conv(CHANNELS, 4)
    )
    model.third.weight = model.second.weight
    assert is_moved(ordered(model), 'third.weight', 1)
    model.third.bias.data = model.second.bias.data
    assert is_moved(ordered(model), 'third.bias')


@pytest.mark.parametrize('tie', ['parameter', 'data'])
def test_tied_parameters_of_other_channels_are_refused(tie):
    model = between(lambda net, x: net.second(x.relu()), second=conv())
    if tie == 'parameter':
        model.second.weight = model.first.weight
    else:
        model.second.weight.data = model.first.weight.data
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError,
        match='since first.weight and second.weight are one tensor of layers .*: untie them, or keep the order',
    ):
        order_channels_(model, plan_slimming(model, 'detector'))
    with pytest.raises(ValueError, match='untie them'):
        check_order(plan_slimming(model, 'detector'))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_that_are_made_of_others_are_refused():
    model = between(lambda net, x: net.second(x), second=conv())
    prune.l1_unstructured(model.second, 'weight', 0.5)
    with pytest.raises(ValueError, match='channels of second .* made of .*weight_mask.*remove the parametrization'):
        order_channels_(model, plan_slimming(model, 'detector'))
    prune.remove(model.second, 'weight')
    order_channels_(model, plan_slimming(model, 'detector'))


def test_a_layer_with_a_parametrization_keeps_its_channels():
    """It is of another class, so it does not slim."""
    model = between(lambda net, x: net.second(x), second=parametrizations.weight_norm(conv()))
    assert not any(name.startswith('second') for name in ordered(model).places)


def test_a_layer_that_runs_in_training_only_is_refused():
    model = between(lambda net, x: x)
    model.auxiliary = conv()
    with pytest.raises(ValueError, match="in scope 'detector': its layer auxiliary .Conv2d. does not run on an image"):
        order_channels_(model, plan_slimming(model, 'detector'))
    plan = plan_slimming(model, 'detector')
    plan.apply_((1.0, 0.5))
    plan.undo_()
    with pytest.raises(ValueError, match='its layer auxiliary'):
        check_order(plan)
    with pytest.raises(ValueError, match='Train it without an order'):
        order_channels_(model)  # without a neck, it may read the backbone
    model.neck = nn.Identity()
    assert order_channels_(model).groups == 1
    model.auxiliary = nn.Embedding(4, CHANNELS)  # it reads indices
    state = copy.deepcopy(model.state_dict())
    check_order(plan_slimming(model, 'detector'))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert order_channels_(model, plan_slimming(model, 'detector')).groups == 2


def test_heads_behind_channels_that_stay_are_not_refused():
    """The plan of scope backbone then ends before the heads, which get all channels in their former order."""
    model = Net(lambda net, x: net.last(x), last=conv(CHANNELS, 4))
    model.backbone = nn.Sequential(conv(3, CHANNELS), conv(), nn.Softmax(1))
    order = ordered(model, 'backbone')
    assert set(order.places) == {'backbone.0.weight', 'backbone.0.bias', 'backbone.1.weight'}


def test_a_layer_whose_weight_an_operation_uses_is_followed():
    """As in the heads of TOOD: no call of the layer, but a product with its weight, which needs all channels."""
    model = between(lambda net, x: F.conv2d(x, net.second.weight.view(CHANNELS, CHANNELS, 1, 1)), second=conv())
    assert set(ordered(model).places) == {'backbone.weight', 'backbone.bias', 'first.weight'}


def test_a_plan_of_another_model_is_refused():
    with pytest.raises(ValueError, match='plan must be a plan of this model, but it is one of another'):
        order_channels_(between(lambda net, x: x), plan_slimming(between(lambda net, x: x)))


def test_trained_and_calibrated_models_are_refused():
    model = between(lambda net, x: net.norm(x), norm=nn.BatchNorm2d(CHANNELS))
    mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    average = copy.deepcopy(model)
    average.norm.set_statistics(0.5, torch.zeros(CHANNELS), torch.ones(CHANNELS))
    for options in (dict(model=average), dict(model=model, averages=[average])):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(
            ValueError, match='Net was trained or calibrated at several widths.*order the channels of a st'
        ):
            order_channels_(**options)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
