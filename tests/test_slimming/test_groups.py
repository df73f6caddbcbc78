"""Groups of channels that slim together, and what layers take of them."""

import numpy as np
import pytest

from mmmutual.layers import Segment
from mmmutual.slimming.channel_ids import ALWAYS, ChannelIds
from mmmutual.slimming.groups import Groups, Run


@pytest.fixture
def ids() -> ChannelIds:
    return ChannelIds()


def grouped(ids, *vectors, divisor: int = 8) -> Groups:
    groups = Groups(ids, vectors)
    for vector in vectors:
        groups.require(vector, divisor)
    return groups


def test_one_run(ids):
    a = ids.new(32)
    groups = grouped(ids, a)
    assert groups.runs(a) == [Run(0, 1, 32)] and groups.segments(a) == (Segment(32, 8),)
    assert groups.active(0.5)[:-1].sum() == 16 and groups.active(0.5)[:16].all()
    assert groups.slims(a) and not groups.slims(None)


def test_concatenations_and_cuts(ids):
    a, b = ids.new(32), ids.new(16)
    joined = np.concatenate((a, b))
    groups = grouped(ids, a, b, joined)
    assert groups.segments(joined) == (Segment(32, 8), Segment(16, 8))
    groups = grouped(ids, a, a[:16], a[16:])
    assert groups.segments(a) == (Segment(16, 8), Segment(16, 8))
    groups = grouped(ids, a, a[8:], a[:12])
    assert [run.channels for run in groups.runs(a)] == [8, 4, 20]
    assert groups.segments(a) == (Segment.full(12), Segment(20, 8))


def test_channels_in_another_order_are_single(ids):
    a = ids.new(4)
    groups = grouped(ids, a, a[::-1].copy())
    assert len(groups.members) == 4 and not groups.slims(a)


def test_channels_that_are_added_are_one_group(ids):
    a, b = ids.new(32), ids.new(32)
    ids.join(a, b)
    groups = grouped(ids, a, b)
    assert groups.runs(a) == groups.runs(b) and len(groups.members) == 1


def test_repeats_of_pixels(ids):
    """Of 4 pixels each, a flattened map of 32 channels has 128 features, in multiples of 32."""
    a = ids.new(32)
    flat = np.repeat(a, 4)
    groups = grouped(ids, a, flat, divisor=1)
    groups.require(a, 8)
    assert groups.runs(flat) == [Run(0, 4, 128)] and groups.segments(flat) == (Segment(128, 32),)


def test_repeats_of_different_length_divide_a_group(ids):
    """Where some channels stand twice in a row, and others once, they are several runs."""
    a = ids.new(32)
    uneven = np.concatenate((np.repeat(a[:16], 2), a[16:]))
    groups = grouped(ids, a, uneven, divisor=1)
    assert [run[1:] for run in groups.runs(uneven)] == [(2, 32), (1, 16)]
    assert groups.segments(a) == (Segment(16, 1), Segment(16, 1))


def test_kept_channels_are_complete(ids):
    a, b = ids.new(16), ids.new(16)
    ids.keep(b, 'softmax mixes channels')
    fixed = np.full(4, ALWAYS)
    vector = np.concatenate((a, b, fixed))
    groups = grouped(ids, a, b, vector)
    assert [(run.group, run.channels) for run in groups.runs(vector)] == [(0, 16), (ALWAYS, 20)]
    assert groups.segments(vector) == (Segment(16, 8), Segment.full(20))
    assert groups.segments(b) == (Segment.full(16),)
    assert ids.reason(vector) == 'softmax mixes channels'


def test_multiples(ids):
    a = ids.new(48)
    groups = grouped(ids, a)
    groups.require(a, 12)
    assert groups.segments(a) == (Segment(48, 24),)
    groups.require(np.repeat(a, 2), 16)
    assert groups.segments(a) == (Segment(48, 24),)
    groups.require(a, 5)
    assert groups.segments(a) == (Segment(48, 48),) and not groups.slims(a)


def test_the_first_reason_stays_and_joins_spread_it(ids):
    a, b = ids.new(4), ids.new(4)
    assert ids.keep(a[:1], 'first') and not ids.keep(a[:1], 'second')
    ids.join(a, b)
    assert ids.reason(b) == 'first' and ids.kept()[ids.find(b)].tolist() == [True, False, False, False]
    version = ids.version
    ids.join(a, b)
    assert ids.version == version
