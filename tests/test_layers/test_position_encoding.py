"""Sine position encodings: a narrow one has the first channels of both halves, for y and for x, with their waves."""

import pytest
import torch
from mmdet.models.layers import SinePositionalEncoding

import mmmutual
from mmmutual.layers import Segment, SlimSinePositionalEncoding, slim_layer_

TWO = (Segment(16), Segment(16))
OPTIONS = [dict(normalize=True), dict(offset=-0.5, normalize=True, temperature=20), dict()]
MASK = torch.zeros(2, 4, 6).index_fill(2, torch.tensor([5]), 1)


@pytest.mark.parametrize('options', OPTIONS)
def test_a_width_has_the_first_channels_of_both_halves(options):
    stock, slim = SinePositionalEncoding(16, **options), SinePositionalEncoding(16, **options)
    slim_layer_(slim, (1.0, 0.5), outputs=TWO)
    assert type(slim) is SlimSinePositionalEncoding and not slim.state_dict()
    expected, without_mask = stock(MASK), stock(None, torch.rand(2, 3, 4, 6))
    assert torch.equal(slim(MASK), expected) and torch.equal(slim(None, torch.rand(2, 3, 4, 6)), without_mask)
    mmmutual.set_width(slim, 0.5)
    active = [*range(8), *range(16, 24)]
    assert torch.equal(slim(MASK), expected[:, active])
    assert torch.equal(slim(mask=None, input=torch.rand(2, 3, 4, 6)), without_mask[:, active])


def test_full_outputs_stay():
    slim = SinePositionalEncoding(16)
    slim_layer_(slim, None, outputs=[Segment.full(32)])
    mmmutual.set_width(slim, 0.25)
    assert slim(MASK).size(1) == 32 and slim.narrow_class(0) is None


def test_segments_must_add_up():
    with pytest.raises(ValueError, match=r'add up to the 32 channels of the output of SlimSine.*but got \[16\]'):
        slim_layer_(SinePositionalEncoding(16), None, outputs=TWO[:1])
