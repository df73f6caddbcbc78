"""mmcv's deformable attention that slims: stock at width 1.0, and below one of fewer heads with their points."""

import copy

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment, slim_layer_
from tests.support.masked import randomize

SHAPES = torch.tensor([[4, 3], [2, 2]])
QUERIES, VALUES = 5, 16
HEADS = ('value_proj', 'sampling_offsets', 'attention_weights')


def build(channels: int = 32, heads: int = 4, **options) -> MultiScaleDeformableAttention:
    attention = MultiScaleDeformableAttention(channels, heads, num_levels=2, num_points=3, **options)
    randomize(attention)
    return attention


def call(channels: int, batch_first: bool = True, boxes: bool = False) -> dict[str, Tensor]:
    """The arguments of a call, as a decoder's."""
    generator = torch.Generator().manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    own = dict(query=QUERIES, value=VALUES, identity=QUERIES, query_pos=QUERIES)
    values = {name: made(2, count, channels) for name, count in own.items()}
    if not batch_first:
        values = {name: value.transpose(0, 1) for name, value in values.items()}
    return dict(
        values,
        key_padding_mask=torch.arange(VALUES).expand(2, -1) > 13,
        reference_points=made(2, QUERIES, 2, 4 if boxes else 2),
        spatial_shapes=SHAPES,
        level_start_index=torch.tensor([0, 12]),
    )


def results(attention: nn.Module, values: dict[str, Tensor]) -> list[Tensor]:
    attention.zero_grad()
    torch.manual_seed(0)
    inputs = [value.requires_grad_() for value in values.values() if value.is_floating_point()]
    output = attention(**values)
    output.square().sum().backward()
    return [output, *(value.grad for value in inputs), *(value.grad for value in attention.parameters())]


def first(tensor: Tensor, name: str, tokens: int, heads: int, total: int = 4) -> Tensor:
    """The part of a stock tensor for some channels of the tokens and some heads."""
    if name.startswith(HEADS):
        tensor = tensor[: heads * tensor.size(0) // total]
        return tensor[:, :tokens] if tensor.dim() == 2 else tensor
    return tensor[:tokens, : heads * tensor.size(1) // total] if tensor.dim() == 2 else tensor[:tokens]


@pytest.mark.parametrize('boxes', [False, True])
@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_full_width_is_stock_bit_for_bit(training, batch_first, boxes):
    stock = build(batch_first=batch_first, dropout=0.3).train(training)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    ours, theirs = (results(each, call(32, batch_first, boxes)) for each in (slim, stock))
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize('boxes', [False, True])
@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('left_out', [(), ('identity', 'query_pos')])
def test_a_narrow_width_is_a_narrow_stock_attention(left_out, batch_first, boxes):
    options = dict(batch_first=batch_first, dropout=0.3)
    slim, narrow = build(**options), build(16, 2, **options)
    narrow.load_state_dict({name: first(value, name, 16, 2) for name, value in slim.state_dict().items()})
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    assert slim.active_heads == 2
    values = [call(16, batch_first, boxes) for _ in range(2)]
    for each in values:
        for name in left_out:
            del each[name]
    ours, theirs = results(slim, values[0]), results(narrow, values[1])
    names = dict(slim.named_parameters())
    for (name, parameter), number in zip(names.items(), range(-len(names), 0)):
        ours[number] = first(ours[number], name, 16, 2)
        assert parameter.grad.count_nonzero() == ours[number].count_nonzero(), name
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('ratio', [1.0, 0.5])
def test_heads_are_rounded_apart_from_tokens(ratio):
    """The narrow attention is the full one whose other channels and heads are zero; heads of 16 channels."""
    stock = build(48, 3, value_proj_ratio=ratio, dropout=0.0)
    slim = copy.deepcopy(stock)
    slim_layer_(slim, (1.0, 0.5), (Segment(48),), (Segment(48),))
    mmmutual.set_width(slim, 0.5)
    assert slim.active_heads == 2
    full, narrow = call(48, False), call(48, False)
    for name in slim.tokens:
        full[name][..., 24:] = 0
        narrow[name] = narrow[name][..., :24]
    stock.output_proj.weight.data.unflatten(1, (3, -1))[:, 2:] = 0
    torch.testing.assert_close(slim(**narrow), stock(**full)[..., :24])


def test_the_channels_must_be_all_or_the_active_ones():
    slim = build()
    slim_layer_(slim, (1.0, 0.5), (Segment(32),), (Segment(32),))
    mmmutual.set_width(slim, 0.5)
    with pytest.raises(ValueError, match='input has 8 channels, but SlimMultiScaleDeformableAttention.*16 active ones'):
        slim(**call(8))
