"""Layers around a concatenation or a split, against stock layers with the channels picked by their numbers."""

import pytest
import torch
from torch import nn

import mmmutual
from mmmutual import layers
from mmmutual.layers import Segment, SlimBatchNorm2d, SlimConv2d, SlimConvTranspose2d, SlimGroupNorm, SlimLinear
from mmmutual.layers.segments import in_groups

PARTS = (Segment(16), Segment.full(8), Segment(48, divisor=16))
ACTIVE = [*range(8), *range(16, 24), *range(24, 56)]  # at width 0.5: 8 of 16, all 8, 32 of 48
WIDTHS = (1.0, 0.5)


def test_active_channels_of_a_segment():
    assert [segment.active(0.5) for segment in PARTS] == [8, 8, 32]
    assert [segment.active(1.0) for segment in PARTS] == [16, 8, 48]
    assert [Segment(144, divisor=48).active(width) for width in (0.75, 0.5, 0.25)] == [144, 96, 48]


@pytest.mark.parametrize('bias', [True, False])
def test_convolution_after_a_concatenation_and_before_a_split(bias):
    slim = SlimConv2d(72, 72, 3, bias=bias)
    slim.divide(inputs=PARTS, outputs=PARTS)
    mmmutual.set_width(slim, 0.5)
    narrow = nn.Conv2d(48, 48, 3, bias=bias)
    narrow.weight.data = slim.weight.data[ACTIVE][:, ACTIVE]
    if bias:
        narrow.bias.data = slim.bias.data[ACTIVE]
    x, y = (torch.rand(2, 48, 6, 6),) * 2
    ours, theirs = slim(x), narrow(y)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward(), theirs.square().sum().backward()
    torch.testing.assert_close(slim.weight.grad[ACTIVE][:, ACTIVE], narrow.weight.grad)
    torch.testing.assert_close(slim.weight.grad.abs().sum(), narrow.weight.grad.abs().sum())


@pytest.mark.parametrize('kind', [nn.ConvTranspose2d, nn.Linear])
def test_other_layers_with_segments_on_both_sides(kind):
    slim_kind = {nn.ConvTranspose2d: SlimConvTranspose2d, nn.Linear: SlimLinear}[kind]
    options = (3,) if kind is nn.ConvTranspose2d else ()
    slim, narrow = slim_kind(72, 72, *options), kind(48, 48, *options)
    slim.divide(inputs=PARTS, outputs=PARTS)
    mmmutual.set_width(slim, 0.5)
    narrow.weight.data, narrow.bias.data = slim.weight.data[ACTIVE][:, ACTIVE], slim.bias.data[ACTIVE]
    x = torch.rand(2, 48, 6, 6) if options else torch.rand(2, 48)
    assert torch.equal(slim(x), narrow(x))
    with pytest.raises(ValueError, match=r'accepts \[8, 8, 32\] of its segments \[16, 8, 48\] at width 0.5'):
        slim(x[:, :40])


@pytest.mark.parametrize(('groups', 'factor'), [(72, 1), (72, 2), (9, 1), (18, 2)])
def test_a_grouped_convolution_with_segments(groups, factor):
    per_in = 72 // groups
    slim = SlimConv2d(72, 72 * factor, 3, groups=groups)
    slim.divide(inputs=PARTS)
    assert slim.out_segments == tuple(Segment(part.channels * factor, part.divisor * factor) for part in PARTS)
    mmmutual.set_width(slim, 0.5)
    narrow = nn.Conv2d(48, 48 * factor, 3, groups=48 // per_in)
    rows = [channel * factor + i for channel in ACTIVE for i in range(factor)]
    narrow.weight.data, narrow.bias.data = slim.weight.data[rows], slim.bias.data[rows]
    assert torch.equal(slim(x := torch.rand(2, 48, 6, 6)), narrow(x))
    assert slim(torch.rand(2, 72, 6, 6)).size(1) == 72 * factor
    with pytest.raises(ValueError, match=r'accepts \[8, 8, 32\] of its segments'):
        slim(torch.rand(2, 56, 6, 6))


@pytest.mark.parametrize('sides', ['both', 'inputs', 'outputs'])
def test_a_grouped_convolution_whose_groups_are_cut_alike(sides):
    slim = SlimConv2d(32, 64, 3, groups=2)
    ins = [Segment.full(32)] if sides == 'outputs' else [Segment(8), Segment(8, 4), Segment(8), Segment(8, 4)]
    outs = [Segment.full(64)] if sides == 'inputs' else [Segment(32), Segment(32)]
    layers.slim_layer_(stock := nn.Conv2d(32, 64, 3, groups=2), WIDTHS, ins, outs)
    slim.divide(ins, outs)
    assert slim.inside_groups and stock.slim_out == (sides != 'inputs')
    rows = [*range(64)] if sides == 'inputs' else [*range(16), *range(32, 48)]
    columns = [*range(16)] if sides == 'outputs' else [*range(8), *range(8, 12)]
    narrow = nn.Conv2d(2 * len(columns), len(rows), 3, groups=2)
    narrow.weight.data, narrow.bias.data = slim.weight.data[rows][:, columns], slim.bias.data[rows]
    mmmutual.set_width(slim, 0.5)
    x = torch.rand(2, 2 * len(columns), 6, 6)
    assert torch.equal(slim(x), narrow(x))
    with pytest.raises(ValueError, match='the input has 40 channels, but SlimConv2d.* accepts at most 32'):
        slim(torch.rand(2, 40, 6, 6))


@pytest.mark.parametrize('outs', [[Segment(32), Segment.full(32)], [Segment(64)]])
def test_groups_that_are_not_cut_alike(outs):
    with pytest.raises(ValueError, match='must divide into whole groups of 16 channels at every width'):
        SlimConv2d(32, 64, 3, groups=2).divide([Segment(16), Segment(16)], outs)


def test_full_runs_are_cut_where_a_group_ends():
    segments = (Segment.full(4), Segment(16), Segment.full(8), Segment(16), Segment.full(4))
    assert in_groups(segments, 2) == [(Segment.full(4), Segment(16), Segment.full(4))] * 2


def test_one_segment_is_a_view():
    for layer in (SlimConv2d(16, 32, 3), SlimConv2d(16, 32, 3, groups=4), SlimConvTranspose2d(16, 32, 3)):
        layer.divide(inputs=[Segment(16)])
        mmmutual.set_width(layer, 0.5)
        for part, whole in zip(layer.active_parameters(8), (layer.weight, layer.bias)):
            assert part.numel() < whole.numel() and part.data_ptr() == whole.data_ptr()
    norm = SlimBatchNorm2d(16, widths=WIDTHS)
    norm.divide([Segment(16)])
    mmmutual.set_width(norm, 0.5)
    norm(torch.rand(2, 8, 4, 4) + 1)
    assert (norm.running_mean_at_0_5[:8] > 0).all() and (norm.running_mean_at_0_5[8:] == 0).all()


@pytest.mark.parametrize('segments', [(Segment.full(72),), (Segment.full(24), Segment.full(48))])
def test_complete_inputs_accept_all_channels_only(segments):
    for layer in (SlimConv2d(72, 8, 1), SlimConv2d(72, 72, 1, groups=72), SlimBatchNorm2d(72), SlimGroupNorm(72, 8)):
        layer.divide(segments)
        layer.width = 0.5
        with pytest.raises(ValueError, match=r'the input has 40 channels, but Slim.* accepts all 72 at width 0.5'):
            layer(torch.rand(2, 40, 4, 4))


def test_full_width_and_complete_inputs_are_stock_bit_for_bit():
    slim, stock = SlimConv2d(72, 72, 3), nn.Conv2d(72, 72, 3)
    slim.load_state_dict(stock.state_dict())
    slim.divide(inputs=PARTS, outputs=PARTS)
    x = torch.rand(2, 72, 6, 6)
    assert torch.equal(slim(x), stock(x))
    mmmutual.set_width(slim, 0.5)
    torch.testing.assert_close(slim(x), stock(x)[:, ACTIVE])


def test_slim_out_false_keeps_all_outputs():
    conv = SlimConv2d(72, 72, 1, slim_out=False)
    conv.divide(inputs=PARTS, outputs=PARTS)
    mmmutual.set_width(conv, 0.5)
    assert conv(torch.rand(1, 48, 4, 4)).size(1) == 72


@pytest.mark.parametrize('momentum', [0.1, None])
def test_batch_norm_in_training_and_evaluation(momentum):
    slim, narrow = SlimBatchNorm2d(72, widths=WIDTHS, momentum=momentum), nn.BatchNorm2d(48, momentum=momentum)
    nn.init.uniform_(slim.weight), nn.init.normal_(slim.bias)
    narrow.weight.data, narrow.bias.data = slim.weight.data[ACTIVE], slim.bias.data[ACTIVE]
    slim.divide(PARTS)
    mmmutual.set_width(slim, 0.5)
    for _ in range(2):
        x = torch.randn(4, 48, 5, 5) * 2 + 1
        torch.testing.assert_close(slim(x), narrow(x))
    torch.testing.assert_close(slim.running_mean_at_0_5[ACTIVE], narrow.running_mean)
    torch.testing.assert_close(slim.running_var_at_0_5[ACTIVE], narrow.running_var)
    others = [channel for channel in range(72) if channel not in ACTIVE]
    assert (slim.running_mean_at_0_5[others] == 0).all()
    assert (slim.running_mean == 0).all()
    torch.testing.assert_close(slim.eval()(x), narrow.eval()(x))


def test_calibrated_statistics_go_to_their_channels_whatever_the_width_is():
    norm = SlimBatchNorm2d(72, widths=WIDTHS)
    norm.divide(PARTS)
    values = torch.arange(48.0)
    norm.set_statistics(0.5, values, values + 1)
    assert torch.equal(norm.running_mean_at_0_5[ACTIVE], values)
    assert torch.equal(norm.running_var_at_0_5[ACTIVE], values + 1)
    norm.set_statistics(1.0, torch.arange(72.0), torch.ones(72))
    assert torch.equal(norm.running_mean, torch.arange(72.0))


def test_group_norm_keeps_whole_groups_of_each_segment():
    slim, narrow = SlimGroupNorm(72, 9), nn.GroupNorm(6, 48)
    nn.init.uniform_(slim.weight), nn.init.normal_(slim.bias)
    narrow.weight.data, narrow.bias.data = slim.weight.data[ACTIVE], slim.bias.data[ACTIVE]
    slim.divide(PARTS)
    mmmutual.set_width(slim, 0.5)
    x = torch.rand(2, 48, 5, 5)
    assert torch.equal(slim(x), narrow(x)) and slim(torch.rand(2, 72, 5, 5)).size(1) == 72
    slim(x).sum().backward()
    assert slim.bias.grad.nonzero().flatten().tolist() == ACTIVE


def test_full_segments_of_a_group_norm_need_no_whole_groups():
    norm = SlimGroupNorm(72, 6)
    norm.divide([Segment.full(8), Segment.full(64)])
    assert norm.segments == (Segment.full(72),)
    mmmutual.set_width(norm, 0.5)
    assert norm(torch.rand(2, 72, 4, 4)).size(1) == 72


def test_errors():
    conv, norm = SlimConv2d(72, 8, 1), SlimBatchNorm2d(72, widths=WIDTHS)
    with pytest.raises(ValueError, match=r'add up to the 72 channels of the input of SlimConv2d.*got \[16, 8\]'):
        conv.divide(inputs=PARTS[:2])
    with pytest.raises(ValueError, match=r'add up to the 8 channels of the output of SlimConv2d.*got \[16, 8, 48\]'):
        conv.divide(outputs=PARTS)
    with pytest.raises(ValueError, match=r'add up to the 72 channels of SlimBatchNorm2d.*got \[16, 8\]'):
        norm.divide(PARTS[:2])
    grouped = SlimConv2d(72, 144, 1, groups=6)
    text = r'input of SlimConv2d.* must divide into whole groups of 12 channels at every width, .* multiples of 12'
    with pytest.raises(ValueError, match=text):
        grouped.divide(inputs=[Segment(24), Segment(48)])
    with pytest.raises(ValueError, match=r'follows its input: outputs must be .*channels=48, divisor=24\), .*but got'):
        grouped.divide(inputs=[Segment(24, 12), Segment(48, 12)], outputs=[Segment(48, 48), Segment(96, 24)])
    group_norm = SlimGroupNorm(72, 6)
    for wrong in ([Segment(72)], [Segment(24, 12), Segment(48, 8)], [Segment.full(8), Segment(64, 16)]):
        with pytest.raises(ValueError, match=r'input of SlimGroupNorm.* whole groups of 12 channels'):
            group_norm.divide(wrong)
    conv.divide(inputs=PARTS)
    norm.divide(PARTS)
    group_norm = SlimGroupNorm(72, 9)
    group_norm.divide(PARTS)
    for layer in (conv, norm, group_norm):
        mmmutual.set_width(layer, 0.5)
        text = r'input has 40 channels, but Slim.*accepts \[8, 8, 32\] of its segments \[16, 8, 48\] at width 0.5'
        with pytest.raises(ValueError, match=text):
            layer(torch.rand(2, 40, 4, 4))
