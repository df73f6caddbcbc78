"""Swin's window attention that slims: stock at width 1.0, and below a stock or masked attention of fewer heads."""

import copy

import pytest
import torch
from mmdet.models.backbones.swin import WindowMSA
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment, slim_layer_
from mmmutual.layers.attention.window import DecoupledWindowMSA
from tests.support.masked import randomize

WINDOW, PLACES = (2, 3), 6
MASK = torch.zeros(3, PLACES, PLACES).masked_fill(torch.arange(PLACES) > 3, -100.0)  # of three windows
OPTIONS = [dict(), dict(qkv_bias=False), dict(qk_scale=0.3)]


def build(channels: int = 32, heads: int = 4, **options) -> WindowMSA:
    attention = WindowMSA(channels, heads, WINDOW, **options)
    randomize(attention)
    return attention


def tokens(channels: int) -> Tensor:
    return torch.rand(6, PLACES, channels, generator=torch.Generator().manual_seed(0)).requires_grad_()


def results(attention: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    attention.zero_grad()
    torch.manual_seed(0)
    output = attention(x, mask)
    output.square().sum().backward()
    return [output, x.grad, *(value.grad for value in attention.parameters())]


def first(tensor: Tensor, name: str, tokens: int, heads: int, channels: int = 8) -> Tensor:
    """The part of a stock tensor for some channels of the tokens and some heads."""
    if name.startswith('qkv'):
        tensor = torch.cat([part[: heads * channels] for part in tensor.chunk(3)])
        return tensor[:, :tokens] if tensor.dim() == 2 else tensor
    if name.startswith('proj'):
        return tensor[:tokens, : heads * channels] if tensor.dim() == 2 else tensor[:tokens]
    return tensor[:, :heads] if name == 'relative_position_bias_table' else tensor


@pytest.mark.parametrize('mask', [None, MASK], ids=['', 'shifted'])
@pytest.mark.parametrize('options', [*OPTIONS, dict(attn_drop_rate=0.3, proj_drop_rate=0.3)])
@pytest.mark.parametrize('training', [False, True])
def test_full_width_is_stock_bit_for_bit(training, options, mask):
    stock = build(**options).train(training)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    ours, theirs = (results(each, tokens(32), mask) for each in (slim, stock))
    assert all(map(torch.equal, ours, theirs))
    with torch.no_grad():
        slim.eval(), stock.eval()
        assert torch.equal(slim(tokens(32), mask=mask), stock(tokens(32), mask=mask))


@pytest.mark.parametrize('mask', [None, MASK], ids=['', 'shifted'])
@pytest.mark.parametrize('options', OPTIONS)
def test_a_narrow_width_is_a_narrow_stock_attention(options, mask):
    """Where the active heads have as many channels as the tokens."""
    slim, narrow = build(**options), build(16, 2, **options)
    narrow.load_state_dict({name: first(value, name, 16, 2) for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    assert slim.active_heads == 2 and slim.narrow_class(16) is None
    ours, theirs = (results(each, tokens(16), mask) for each in (slim, narrow))
    for number, (name, parameter) in enumerate(slim.named_parameters(), 2):
        ours[number] = first(ours[number], name, 16, 2)
        assert parameter.grad.count_nonzero() == ours[number].count_nonzero(), name
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('mask', [None, MASK], ids=['', 'shifted'])
@pytest.mark.parametrize(
    ('inputs', 'outputs', 'sizes'),
    [
        ((Segment(48),), (Segment(48),), (24, 24, 2)),  # heads of 16 channels: 2 of 3 at width 0.5
        ((Segment(48),), (Segment.full(48),), (24, 48, 3)),
        ((Segment.full(48),), (Segment(48),), (48, 24, 2)),
    ],
)
def test_heads_are_rounded_apart_from_tokens(inputs, outputs, sizes, mask):
    """The narrow attention is the full one whose other channels and heads are zero."""
    stock = build(48, 3)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), inputs, outputs)
    mmmutual.set_width(slim, 0.5)
    given, written, heads = sizes
    assert slim.active_heads == heads
    assert slim.narrow_class(given) is (None if given == heads * 16 else DecoupledWindowMSA)
    x = tokens(48).detach()
    x[..., given:] = 0
    stock.proj.weight.data[:, heads * 16 :] = 0
    torch.testing.assert_close(slim(x[..., :given], mask), stock(x, mask)[..., :written])


def test_the_channels_must_be_all_or_the_active_ones():
    slim = build()
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    with pytest.raises(
        ValueError, match=r'input has 8 channels, but SlimWindowMSA.*accepts the 16 active ones or all 32'
    ):
        slim(tokens(8))
    assert slim(tokens(32)).shape == (6, PLACES, 16)
