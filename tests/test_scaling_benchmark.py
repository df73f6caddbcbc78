"""The models of time and memory of benchmarks/scaling.py."""

import numpy as np
import pytest
import torch
from torch import nn

import scaling
from mmmutual.engine.sampling import SandwichSampler, Subnet
from mmmutual.layers import Slimmable
from scaling import PassTime

SIZES = [(192, 320), (320, 512)]


def counts(subnet: Subnet, size: tuple[int, int]) -> np.ndarray:
    pixels = size[0] * size[1] * subnet.scale**2 / 1e6
    return np.array([1.0, subnet.width**2 * pixels, subnet.width * pixels])


@pytest.fixture
def time():
    return PassTime(np.array([5.0, 40.0, 20.0]), 3.0, counts)


def test_the_fit_finds_the_weights_that_made_the_times(time, monkeypatch):
    def count_parts(model, size):
        pixels = size[0] * size[1] / 1e6 * 1e9
        return dict(backbone=model.width**2 * pixels, neck=model.width * pixels / 4, rpn_head=model.width * pixels / 2)

    class Layer(nn.Identity, Slimmable):
        pass

    monkeypatch.setattr(scaling, 'count_multiply_adds', count_parts)
    passes = {}
    for width in (1.0, 0.5, 0.25):
        for scale in (1.0, 0.5):
            pixels = 192 * 320 * scale**2 / 1e6
            milliseconds = 2 * (5.0 + 40 * width**2 * pixels + 20 * 0.75 * width * pixels)
            passes[Subnet(width, scale), (192, 320)] = milliseconds
    fitted = scaling.fit_time(Layer(), passes, 3.0, 2)
    assert fitted.weights == pytest.approx([5.0, 40.0, 20.0])
    assert fitted.of_pass(Subnet(0.5, 0.5), (192, 320), 2) == pytest.approx(passes[Subnet(0.5, 0.5), (192, 320)])


def test_passes_and_step_add_up(time):
    subnets = [Subnet(1.0), Subnet(0.25, 0.5)]
    each = [time.of_pass(subnet, SIZES[0], 2) for subnet in subnets]
    assert time.of_iteration(subnets, SIZES[0], 2) == pytest.approx(sum(each) + 3.0)
    rows = scaling.check_table(time, {(tuple(subnets), SIZES[0]): 2 * (sum(each) + 3.0)}, 2)
    assert rows[1][0] == '192 x 320' and rows[1][1] == 'w1_s1 w0.25_s0.5' and rows[1][-1] == '0.500'


@pytest.mark.parametrize('name', ['MutualNet, 4 passes', 'MutualNet, 2 passes', 'US-Net, 4 passes'])
def test_the_expected_iteration_is_the_mean_of_many_drawn_ones(time, name):
    sampler = scaling.methods_of((1.0, 0.75, 0.5, 0.25))[name]
    drawn = [time.of_iteration(sampler.sample(index), SIZES[1], 2) for index in range(3000)]
    assert scaling.mean_iteration(time, sampler, SIZES[1], 2) == pytest.approx(np.mean(drawn), rel=0.01)


def test_ratios_are_to_a_stock_iteration(time):
    rows = scaling.ratio_table(time, (1.0, 0.5), SIZES, 2)
    assert rows[0] == ['method', '192 x 320', '320 x 512']
    sampler = SandwichSampler((1.0, 0.5), (1.0,), 4)
    expected = scaling.mean_iteration(time, sampler, SIZES[0], 2) / time.of_iteration([Subnet(1.0)], SIZES[0], 2)
    assert rows[-1][:2] == ['US-Net, 4 passes', f'{expected:.2f}']


def test_memory_is_a_line_through_the_sizes():
    model = nn.Linear(1000, 1000)  # 1.001 M parameters
    pixels = [2 * size[0] * size[1] / 1e6 for size in SIZES]
    memory = {('stock', size): 100 + 50 * each for size, each in zip(SIZES, pixels)}
    memory |= {('mutual', size): 120 + 60 * each for size, each in zip(SIZES, pixels)}
    rows = scaling.memory_table(memory, 2, model)
    assert rows[1][-1] == '100 MB + 50 MB per megapixel'
    assert rows[2][-1] == '120 MB + 60 MB per megapixel'
    assert rows[3][:2] == ['weights, gradients, momentum', '12 MB']


def test_hours_follow_the_published_rate(time):
    rows = scaling.training_table(time, (1.0, 0.5), 2, nn.Linear(1000, 1000, device=torch.device('meta')))
    hours = 24 * 117266 / 53 * (600 * 1000) / (800 * 1333) / 3600
    assert rows[1][:3] == ['stock', '1', f'{hours:.1f}']
    ratio = float(rows[-1][1])
    assert float(rows[-1][2]) == pytest.approx(hours * ratio, rel=0.01)
