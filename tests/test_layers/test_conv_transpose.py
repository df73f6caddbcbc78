import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import SlimConvTranspose2d, can_slim
from mmmutual.layers.segments import Segment

OPTIONS = [dict(kernel_size=2, stride=2), dict(kernel_size=4, stride=2, padding=1, output_padding=1, bias=False)]


@pytest.mark.parametrize('options', OPTIONS)
def test_full_width_is_stock_bit_for_bit(options):
    slim, stock = SlimConvTranspose2d(16, 32, **options), nn.ConvTranspose2d(16, 32, **options)
    slim.load_state_dict(stock.state_dict())
    x = torch.rand(2, 16, 5, 7)
    assert torch.equal(slim(x), stock(x))
    assert torch.equal(slim(x, [11, 15]), stock(x, [11, 15]))


@pytest.mark.parametrize('slim_out', [True, False])
@pytest.mark.parametrize('options', OPTIONS)
def test_narrow_is_a_narrow_stock_layer(options, slim_out):
    slim = SlimConvTranspose2d(16, 32, slim_out=slim_out, **options).double()
    narrow = nn.ConvTranspose2d(8, 16 if slim_out else 32, **options).double()
    for ours, theirs in zip(slim.parameters(), narrow.parameters()):
        theirs.data = ours.data[tuple(slice(size) for size in theirs.shape)].clone()
    mmmutual.set_width(slim, 0.5)
    x = torch.rand(2, 8, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(slim(x), narrow(x))
    for layer in (slim, narrow):
        layer(x).square().sum().backward()
    rows, columns = narrow.weight.shape[:2]
    torch.testing.assert_close(slim.weight.grad[:rows, :columns], narrow.weight.grad)
    torch.testing.assert_close(slim.weight.grad.abs().sum(), narrow.weight.grad.abs().sum())


def test_outputs_are_a_multiple_of_the_divisor():
    layer = SlimConvTranspose2d(16, 48, 2)
    layer.divide(outputs=(Segment(48, 16),))
    mmmutual.set_width(layer, 0.5)
    assert layer(torch.rand(1, 8, 2, 2)).size(1) == 32
    with pytest.raises(ValueError, match=r'must add up to the 48 channels of the output of SlimConvTranspose2d'):
        layer.divide(outputs=(Segment(40),))


def test_bad_input():
    with pytest.raises(ValueError, match='a transposed convolution slims with groups=1 only, but got groups=2'):
        SlimConvTranspose2d(16, 32, 2, groups=2)
    assert not can_slim(nn.ConvTranspose2d(16, 32, 2, groups=2))
    with pytest.raises(ValueError, match='the input has 24 channels, but SlimConvTranspose2d.* accepts at most 16'):
        SlimConvTranspose2d(16, 32, 2)(torch.rand(1, 24, 2, 2))
    assert 'slim_out=False' in str(SlimConvTranspose2d(16, 32, 2, slim_out=False))
