"""A slimmable layer accepts all of its channels, or those that are active at its width; unbatched inputs too."""

import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimBatchNorm2d, SlimConv2d, SlimConvTranspose2d, SlimLinear

CONV = r'SlimConv2d\(64, 8, .* accepts '
CAUSE = r'Is its in_channels that of another backbone or neck\?'


@pytest.mark.parametrize(
    ('channels', 'width', 'message'),
    [
        (32, 1.0, f'the input has 32 channels, but {CONV}all 64 at width 1. {CAUSE}'),
        (16, 0.5, f'the input has 16 channels, but {CONV}the 32 active ones or all 64 at width 0.5. {CAUSE}'),
        (48, 0.5, f'the input has 48 channels, but {CONV}the 32 active ones or all 64'),
        (128, 0.5, f'the input has 128 channels, but {CONV}at most 64. {CAUSE}'),
    ],
)
def test_another_number_of_channels_is_refused(channels, width, message):
    conv = SlimConv2d(64, 8, 1)
    mmmutual.set_width(conv, width)
    with pytest.raises(ValueError, match=message):
        conv(torch.rand(1, channels, 4, 4))


@pytest.mark.parametrize('layer', [SlimConv2d(64, 8, 1), SlimConvTranspose2d(64, 8, 1), SlimLinear(64, 8)])
def test_all_layers_with_weights_check_their_input(layer):
    shape = (2, 64) if isinstance(layer, nn.Linear) else (2, 64, 4, 4)
    for width, wrong in ((1.0, 56), (0.5, 16)):
        mmmutual.set_width(layer, width)
        layer(torch.rand(shape))
        with pytest.raises(ValueError, match=f'the input has {wrong} .* at width'):
            layer(torch.rand(shape)[:, :wrong])
    layer.divide(inputs=[Segment(64, 48)])  # behind a layer that slims in multiples of 48
    layer(torch.rand(shape)[:, :48])
    with pytest.raises(ValueError, match='the 48 active ones or all 64 at width 0.5.* another number than 48'):
        layer(torch.rand(shape)[:, :32])


def test_a_norm_needs_all_channels_at_full_width():
    with pytest.raises(
        ValueError, match=r'the input has 8 channels, but SlimBatchNorm2d\(16.* accepts all 16 at width 1'
    ):
        SlimBatchNorm2d(16)(torch.rand(2, 8, 4, 4))


def test_flattened_maps_come_in_multiples_of_their_pixels():
    linear = SlimLinear(20 * 9, 4)
    linear.divide(inputs=[Segment(20 * 9, 8 * 9)])
    mmmutual.set_width(linear, 0.5)
    assert linear(torch.rand(2, 16 * 9)).shape == (2, 4)
    with pytest.raises(ValueError, match='the 144 active ones or all 180'):
        linear(torch.rand(2, 88))  # 90 rounded to a multiple of 8


@pytest.mark.parametrize('width', [0.9, 0.7, 0.3, 0.25])
@pytest.mark.parametrize(('channels', 'pixels'), [(48, 49), (256, 9), (512, 49), (24, 6)])
def test_flattened_maps_are_accepted_unless_their_channels_are_others(channels, pixels, width):
    linear = SlimLinear(channels * pixels, 4)
    mmmutual.set_width(linear, width)
    active = Segment(channels).active(width)
    assert linear(torch.rand(2, active * pixels)).shape == (2, 4)
    with pytest.raises(ValueError, match='the input has .* features, but'):
        linear(torch.rand(2, (active - 1) * pixels))


@pytest.mark.parametrize('options', [dict(), dict(padding=1, padding_mode='circular'), dict(groups=4)])
def test_an_image_without_a_batch(options):
    slim, stock = SlimConv2d(16, 32, 3, **options), nn.Conv2d(16, 32, 3, **options)
    slim.load_state_dict(stock.state_dict())
    x = torch.rand(16, 9, 9)
    assert torch.equal(slim(x), stock(x))
    mmmutual.set_width(slim, 0.5)
    torch.testing.assert_close(slim(x[:8]), slim(x[None, :8])[0])
    slim, stock = SlimConvTranspose2d(16, 32, 2), nn.ConvTranspose2d(16, 32, 2)
    slim.load_state_dict(stock.state_dict())
    assert torch.equal(slim(x), stock(x))
