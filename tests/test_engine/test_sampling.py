from collections import Counter

import pytest

from mmmutual.engine import SandwichSampler, Subnet

WIDTHS, SCALES = (0.25, 0.5, 0.75, 0.9, 1.0), (0.4, 1.0, 0.6, 0.8)


def test_the_sandwich():
    sampler = SandwichSampler(WIDTHS, SCALES, 4)
    for iteration in range(50):
        widest, first, second, narrowest = sampler.sample(iteration)
        assert widest == Subnet(1.0, 1.0)
        assert narrowest.width == 0.25
        assert first.width != second.width
        assert {first.width, second.width} <= {0.5, 0.75, 0.9}


def test_widths_and_scales_are_drawn_evenly():
    draws = [subnet for i in range(3000) for subnet in SandwichSampler(WIDTHS, SCALES, 4).sample(i)[1:]]
    widths, scales = Counter(subnet.width for subnet in draws), Counter(subnet.scale for subnet in draws)
    assert all(abs(widths[width] - 2000) < 150 for width in (0.5, 0.75, 0.9))
    assert widths[0.25] == 3000
    assert all(abs(scales[scale] - 2250) < 150 for scale in SCALES)
    scales_of_narrowest = Counter(subnet.scale for subnet in draws if subnet.width == 0.25)
    assert all(abs(scales_of_narrowest[scale] - 750) < 100 for scale in SCALES)


def test_a_pure_function_of_seed_and_iteration():
    sampler = SandwichSampler(WIDTHS, SCALES, 4, seed=7)
    forwards = [sampler.sample(i) for i in range(20)]
    assert [sampler.sample(i) for i in reversed(range(20))] == forwards[::-1]
    assert [SandwichSampler(WIDTHS, SCALES, 4, seed=8).sample(i) for i in range(20)] != forwards


@pytest.mark.parametrize(
    ('widths', 'count'), [((1.0, 0.9), 4), ((1.0,), 1), ((1.0,), 3), ((1.0, 0.5, 0.25), 6), (WIDTHS, 2)]
)
def test_few_widths(widths, count):
    drawn = SandwichSampler(widths, (1.0, 0.5), count).sample(0)
    assert len(drawn) == count
    assert drawn[0] == Subnet(1.0, 1.0)
    assert {subnet.width for subnet in drawn} <= set(widths)


def test_names():
    assert str(Subnet(0.25, 1.0)) == 'w0.25_s1'
