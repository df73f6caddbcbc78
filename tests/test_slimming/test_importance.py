"""The importance of channels: names, functions, and what they may return."""

import pytest
import torch
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from torch import nn

from mmmutual.slimming import IMPORTANCES, order_channels_, plan_slimming, read_weights
from tests.support.masked import randomize
from tests.support.toy_detector import CHANNELS, Net, between, conv


def network() -> Net:
    model = between(lambda net, x: x.relu())
    randomize(model)
    return model


def order_of(model: nn.Module, importance) -> torch.Tensor:
    """The former places of the channels of ``first``."""
    return order_channels_(model, plan_slimming(model, 'detector'), importance).places['first.weight'][0]


@pytest.mark.parametrize(
    ('name', 'norm'), [('l1', lambda x: x.abs().sum(1)), ('l2', lambda x: x.square().sum(1).sqrt())]
)
def test_names(name, norm):
    model = network()
    scores = norm(model.last.weight.detach()[:, :, 0, 0].T)
    assert torch.equal(order_of(model, name), scores.argsort(descending=True))


def test_the_weights_of_norms_are_the_default():
    """Summed over the norms of a residual stage; without a norm, the L1 norm of the readers."""
    model = Net(
        lambda net, x: net.last(net.norm(net.first(x)) + net.other(net.second(x))),
        first=conv(),
        norm=nn.BatchNorm2d(CHANNELS),
        second=conv(),
        other=nn.GroupNorm(CHANNELS, CHANNELS),
        last=conv(CHANNELS, 4),
    )
    randomize(model)
    model.other.weight.data.neg_()
    scores = model.norm.weight.abs() + model.other.weight.abs()
    read = [layer.weight.detach().abs().sum((0, 2, 3)) for layer in (model.first, model.second)]
    order = order_channels_(model, plan_slimming(model, 'detector'))
    assert torch.equal(order.places['last.weight'][1], scores.argsort(descending=True))
    assert torch.equal(order.places['backbone.weight'][0], sum(read).argsort(descending=True))


def test_a_reader_whose_groups_slim_alike_counts_once_for_each_group():
    split = SplitAttentionConv2d(CHANNELS, CHANNELS, 3, padding=1)
    model = Net(lambda net, x: net.last(net.split(net.first(x))), first=conv(), split=split, last=conv(CHANNELS, 4))
    model.eval()
    randomize(model)
    scores = split.conv.weight.detach().abs().sum((2, 3)).view(2, CHANNELS, -1).sum(1).sum(0)
    order = scores.argsort(descending=True)
    assert torch.equal(order_of(model, 'l1'), torch.cat((order, order + CHANNELS // 2)))


def test_all_readers_count():
    model = Net(
        lambda net, x: net.last(x) + net.other(torch.cat((x, x), 1)), last=conv(outputs=8), other=conv(2 * CHANNELS, 8)
    )
    randomize(model)
    other = model.other.weight.detach().abs().sum((0, 2, 3)).view(2, CHANNELS).sum(0)
    scores = model.last.weight.detach().abs().sum((0, 2, 3)) + other
    order = order_channels_(model, plan_slimming(model, 'detector'))
    assert torch.equal(order.places['backbone.weight'][0], scores.argsort(descending=True))


def test_functions():
    def by_writer(group, layers):
        weight = layers[group.writers[0].layer].weight.flatten(1)
        (read,) = read_weights(group, layers)
        assert len(weight) == len(read) == group.channels
        return weight.abs().amax(1).tolist()  # whatever can be a tensor

    model = network()
    scores = model.first.weight.detach().abs().amax((1, 2, 3))
    assert torch.equal(order_of(model, by_writer), scores.argsort(descending=True))


def test_a_registered_name():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IMPORTANCES, '_module_dict', dict(IMPORTANCES.module_dict))

        @IMPORTANCES.register_module()
        def last_first(group, layers):
            return torch.arange(group.channels)

        assert order_of(network(), 'last_first').tolist() == list(range(CHANNELS))[::-1]


def test_equal_scores_keep_their_order():
    scores = torch.arange(CHANNELS) // 8
    index = order_of(network(), lambda group, layers: scores)
    assert index.tolist() == [*range(24, 32), *range(16, 24), *range(8, 16), *range(8)]
    assert torch.equal(order_of(network(), lambda group, layers: torch.zeros(group.channels)), torch.arange(CHANNELS))


def test_a_group_without_readers_keeps_its_order():
    """As the outputs that a backbone does not return, with the L1 norm of the readers."""
    model = nn.Sequential(conv(3, 32), conv(32, 32))
    index = order_channels_(model).places['0.weight'][0]
    assert not torch.equal(index, torch.arange(32))
    group = plan_slimming(network(), 'detector').groups[-1]
    unread = type(group)(group.channels, group.divisor, group.writers)
    assert torch.equal(IMPORTANCES.get('l1')(unread, {}), torch.zeros(CHANNELS))
    assert torch.equal(IMPORTANCES.get('l2')(unread, {}), torch.zeros(CHANNELS))


def broken(group, layers):
    return torch.zeros(3)


@pytest.mark.parametrize(
    ('importance', 'error', 'text'),
    [
        ('L1', ValueError, r"importance must be a function or one of \['l1', 'l2'.*\], but got 'L1'"),
        (None, TypeError, 'importance must be a name or a function, but got None'),
        (broken, ValueError, r'the importance broken must return a finite score for each of the 32 .* shape \(3,\)'),
        (
            lambda group, layers: torch.full((group.channels,), float('nan')),
            ValueError,
            'must return a finite score .* that backbone writes, but returned values that are not finite',
        ),
    ],
)
def test_wrong_importances(importance, error, text):
    model = network()
    before = model.first.weight.clone()
    with pytest.raises(error, match=text):
        order_of(model, importance)
    assert torch.equal(model.first.weight, before)


def test_weights_that_are_not_finite_are_refused():
    model = network()
    model.last.weight.data[0, 0] = float('nan')
    with pytest.raises(ValueError, match='the importance l1 must return a finite score'):
        order_of(model, 'l1')
