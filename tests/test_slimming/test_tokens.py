"""Layers of transformers between two convolutions: norms of tokens, attention, and parameters between layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmutual.slimming import plan_slimming
from tests.support.toy_detector import CHANNELS, SIZE, Net, between, conv, maps, slimming, tokens


def attention(**options) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(CHANNELS, 4, batch_first=True, **options)


def attend(net: Net, query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return maps(tokens(query) + net.attention(tokens(query), tokens(value), tokens(value))[0])


def test_a_layer_norm_of_tokens_slims():
    model = between(lambda net, x: maps(net.norm(tokens(x))), norm=nn.LayerNorm(CHANNELS))
    assert slimming(model) == {'backbone', 'first', 'norm'}


@pytest.mark.parametrize('norm', [nn.LayerNorm(2 * CHANNELS), nn.GroupNorm(8, 2 * CHANNELS)])
def test_a_norm_of_several_segments_slims(norm):
    def both(net, x):
        x = torch.cat((x, x.sigmoid()), 1)
        return net.norm(x) if isinstance(net.norm, nn.GroupNorm) else maps(net.norm(tokens(x)))

    model = between(both, 2 * CHANNELS, norm=norm)
    assert slimming(model) == {'backbone', 'first', 'norm'}
    assert len(next(layer.inputs for layer in plan_slimming(model, 'detector').layers if layer.name == 'norm')) == 2


def test_a_group_norm_across_segments_needs_all():
    model = between(
        lambda net, x: net.norm(torch.cat((x, x[:, :8]), 1)), CHANNELS + 8, norm=nn.GroupNorm(4, CHANNELS + 8)
    )
    assert slimming(model) == {'backbone'}


def test_attention_slims_with_its_residual():
    model = between(lambda net, x: attend(net, x, x), attention=attention())
    assert slimming(model) == {'backbone', 'first', 'attention'}


def test_attention_to_others_has_their_channels():
    model = Net(
        lambda net, x: net.last(attend(net, net.first(x), net.second(x))),
        first=conv(), second=conv(), last=conv(outputs=4), attention=attention(),
    )  # fmt: skip
    assert slimming(model) == {'backbone', 'first', 'second', 'attention'}
    groups = [{part.layer for part in group.writers} for group in plan_slimming(model, 'detector').groups]
    assert {'first', 'second', 'attention'} in groups


@pytest.mark.parametrize('options', [dict(add_zero_attn=True), dict(add_bias_kv=True)])
def test_attention_with_other_options_needs_all(options):
    model = between(lambda net, x: attend(net, x, x), attention=attention(**options))
    assert slimming(model) == {'backbone'}


def test_a_layer_in_front_of_an_attention_that_mixes_needs_all():
    model = between(lambda net, x: attend(net, x, x.flip(1)), attention=attention())
    assert slimming(model) == {'backbone'}


def gated(x: torch.Tensor) -> torch.Tensor:
    """The tokens behind the first, which weighs their channels."""
    return maps(x[:, 1:] * x[:, :1].sigmoid())


PARAMETERS = {
    'embedding': ((1, SIZE * SIZE, CHANNELS), lambda x, value: maps(tokens(x) + value)),
    'scale': ((CHANNELS,), lambda x, value: maps(tokens(x) * value)),
    'class token': ((1, 1, CHANNELS), lambda x, value: gated(torch.cat((value.expand(len(x), -1, -1), tokens(x)), 1))),
    'resized': (
        (1, 4, CHANNELS),
        lambda x, value: x + F.interpolate(value.transpose(1, 2).unflatten(2, (2, 2)), size=(SIZE, SIZE)),
    ),
    'rows': ((7, CHANNELS), lambda x, value: maps(tokens(x) + F.embedding(torch.arange(2), value)[:, None])),
}  # fmt: skip


@pytest.mark.parametrize('name', PARAMETERS)
def test_a_parameter_slims_with_the_channels_it_meets(name):
    shape, operation = PARAMETERS[name]
    model = between(lambda net, x: operation(x, net.value))
    model.value = nn.Parameter(torch.rand(shape))
    assert slimming(model) == {'backbone', 'first'}
    (plan,) = plan_slimming(model, 'detector').parameters
    assert (plan.name, plan.attribute, sum(each.channels for each in plan.segments)) == ('value', 'value', CHANNELS)


def test_a_parameter_that_is_mixed_needs_all():
    model = between(lambda net, x: maps(tokens(x) + net.value.softmax(-1)))
    model.value = nn.Parameter(torch.rand(CHANNELS))
    assert slimming(model) == {'backbone'}
    assert not plan_slimming(model, 'detector').parameters


class OwnAttention(nn.Module):
    """It divides the channels of the tokens by its heads, so they cannot slim; the layers around it can."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.proj = nn.Linear(32, 32), nn.Linear(32, 32)
        self.hidden, self.back = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x):
        images, tokens, channels = x.shape
        query = self.query(x).reshape(images, tokens, 2, channels // 2).softmax(-1)
        x = x + self.proj(query.reshape(images, tokens, channels))
        return x + self.back(self.hidden(x).relu())


def test_an_attention_that_counts_the_channels_of_tokens_keeps_them_alone():
    net = nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.Flatten(2), Transposed(), OwnAttention(), nn.Linear(32, 8))
    plan = plan_slimming(net)
    slims = {layer.name: layer.slims_out for layer in plan.layers}
    assert slims['3.hidden'] and not slims['3.query'] and not slims['0']


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)
