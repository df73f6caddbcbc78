"""``nn.MultiheadAttention`` that slims: stock at width 1.0, and below a stock or masked attention of fewer heads."""

import copy
import inspect

import pytest
import torch
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment, can_slim, slim_layer_
from mmmutual.layers.attention.multihead import DecoupledMultiheadAttention
from tests.support.masked import randomize

N, L, S, HEADS = 2, 5, 6, 4
MASKS = {
    'none': {},
    'bool': dict(attn_mask=torch.ones(L, S).triu(2).bool()),
    'float': dict(attn_mask=torch.linspace(-3, 0, L * S).view(L, S)),
    'bool for each head': dict(attn_mask=torch.rand(N * HEADS, L, S - 1).gt(0.6)),
    'float for each head': dict(attn_mask=torch.rand(N * HEADS, L, S)),
    'padding': dict(key_padding_mask=torch.arange(S) >= torch.tensor([[S], [4]])),
    'padding and bool': dict(
        attn_mask=torch.ones(L, S).triu(2).bool(), key_padding_mask=torch.arange(S) >= torch.tensor([[S], [4]])
    ),
    'float padding and float': dict(attn_mask=torch.rand(L, S), key_padding_mask=torch.rand(N, S)),
}
MASKS['bool for each head']['attn_mask'] = torch.cat(  # the first key is never masked
    (torch.zeros(N * HEADS, L, 1).bool(), MASKS['bool for each head']['attn_mask']), 2
)
every_mask = pytest.mark.parametrize('mask', MASKS)
both_layouts = pytest.mark.parametrize('batch_first', [False, True])


def build(channels: int = 32, heads: int = HEADS, **options) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(channels, heads, **options)
    randomize(attention)
    return attention


def tokens(channels: int, batch_first: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(N, count) if batch_first else (count, N) for count in (L, S, S)]
    return [torch.rand(*size, channels, generator=generator).requires_grad_() for size in sizes]


def results(attention: nn.Module, values: list[Tensor], **options) -> list[Tensor]:
    """Outputs and gradients."""
    attention.zero_grad()
    torch.manual_seed(0)
    output, weights = attention(*values, **options)
    output.square().sum().backward()
    gradients = [value.grad for value in (*values, *attention.parameters())]
    return [output, *([] if weights is None else [weights]), *gradients]


def first(tensor: Tensor, name: str, tokens: int, heads: int) -> Tensor:
    """The part of a stock tensor for some channels of the tokens and some of the heads' channels."""
    if name.startswith('in_proj'):
        tensor = torch.cat([part[:heads] for part in tensor.chunk(3)])
        return tensor[:, :tokens] if tensor.dim() == 2 else tensor
    return tensor[:tokens, :heads] if tensor.dim() == 2 else tensor[:tokens]


@both_layouts
@every_mask
@pytest.mark.parametrize('training', [False, True])
def test_full_width_is_stock_bit_for_bit(training, mask, batch_first):
    stock = build(batch_first=batch_first, dropout=0.2).train(training)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    for options in (dict(), dict(need_weights=False), dict(average_attn_weights=False)):
        ours, theirs = (results(each, tokens(32, batch_first), **MASKS[mask], **options) for each in (slim, stock))
        assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))
        with torch.no_grad():  # where torch has a fast path
            torch.manual_seed(1)
            ours = slim(*[tokens(32, batch_first)[1]] * 3, need_weights=False)[0]
            torch.manual_seed(1)
            assert torch.equal(ours, stock(*[tokens(32, batch_first)[1]] * 3, need_weights=False)[0])


@both_layouts
@every_mask
@pytest.mark.parametrize('options', [dict(), dict(need_weights=False), dict(average_attn_weights=False)])
def test_a_narrow_width_is_a_narrow_stock_attention(options, mask, batch_first):
    """Where the active heads have as many channels as the tokens."""
    slim, narrow = build(batch_first=batch_first), build(16, 2, batch_first=batch_first)
    narrow.load_state_dict({name: first(value, name, 16, 16) for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    given = dict(MASKS[mask])
    ours = results(slim, tokens(16, batch_first), **given, **options)
    if 'each head' in mask:
        given['attn_mask'] = given['attn_mask'].view(N, HEADS, L, S)[:, :2].flatten(0, 1)
    theirs = results(narrow, tokens(16, batch_first), **given, **options)
    names = dict(slim.named_parameters())
    for (name, parameter), number in zip(names.items(), range(-len(names), 0)):
        part = first(ours[number], name, 16, 16)
        assert parameter.grad.count_nonzero() == part.count_nonzero()  # other channels have none
        ours[number] = part
    torch.testing.assert_close(ours, theirs)


def test_dropout_is_that_of_stock():
    slim, narrow = build(dropout=0.5), build(16, 2, dropout=0.5)
    narrow.load_state_dict({name: first(value, name, 16, 16) for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    torch.testing.assert_close(results(slim, tokens(16))[:5], results(narrow, tokens(16))[:5])


@both_layouts
@every_mask
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
    ('inputs', 'outputs', 'sizes'),
    [
        ((Segment(48),), (Segment(48),), (24, 24, 2)),  # heads of 16 channels: 2 of 3 at width 0.5
        ((Segment(48),), (Segment.full(48),), (24, 48, 3)),
        ((Segment.full(48),), (Segment(48),), (48, 24, 2)),
    ],
)
def test_heads_are_rounded_apart_from_tokens(inputs, outputs, sizes, bias, mask, batch_first):
    """The narrow attention is the full one whose other channels and heads are zero."""
    if 'each head' in mask:
        pytest.skip('the masks are those of four heads')
    stock = build(48, 3, bias=bias, batch_first=batch_first)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), inputs, outputs)
    mmmutual.set_width(slim, 0.5)
    given, written, heads = sizes
    assert slim.active_heads == heads
    assert (slim.narrow_class(given) is None) == (given == written == heads * 16)
    values = [value.detach() for value in tokens(48, batch_first)]
    for value in values:
        value[..., given:] = 0
    stock.out_proj.weight.data[:, heads * 16 :] = 0
    ours, _ = slim(*[value[..., :given] for value in values], **MASKS[mask])
    theirs, _ = stock(*values, **MASKS[mask])
    torch.testing.assert_close(ours, theirs[..., :written])


def test_causal_is_a_hint():
    slim = build()
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    mask = torch.ones(L, L).triu(1).bool()
    query = tokens(16)[0]
    expected = slim(query, query, query, attn_mask=mask)[0]
    assert torch.equal(slim(query, query, query, attn_mask=mask, is_causal=True, need_weights=False)[0], expected)


def test_the_decoupled_class_has_the_arguments_of_stock():
    arguments = [inspect.signature(kind.forward) for kind in (DecoupledMultiheadAttention, nn.MultiheadAttention)]
    assert [*arguments[0].parameters] == [*arguments[1].parameters]
    defaults = [{name: each.default for name, each in own.parameters.items()} for own in arguments]
    assert defaults[0] == defaults[1]


def test_errors():
    slim = build()
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    query, key, value = tokens(16)
    text = r'SlimMultiheadAttention\(32 channels, 4 heads\) needs tokens with a batch, of 3 dimensions, at width 0\.5, but query has 2: add'
    with pytest.raises(ValueError, match=text):
        slim(query[:, 0], key[:, 0], value[:, 0])
    for wrong in ((query[..., :8], key, value), (query, key, value[..., :8])):
        with pytest.raises(ValueError, match='input has 8 channels, but SlimMultiheadAttention.* the 16 active ones'):
            slim(*wrong)
    mmmutual.set_width(slim, 1.0)
    assert slim(*[each[:, 0] for each in tokens(32)])[0].shape == (L, 32)  # stock accepts them


@pytest.mark.parametrize('options', [dict(kdim=8), dict(vdim=8), dict(add_bias_kv=True), dict(add_zero_attn=True)])
def test_other_options_stay_stock(options):
    assert can_slim(build()) and not can_slim(nn.MultiheadAttention(32, 4, **options))
