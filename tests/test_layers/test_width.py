import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, active_channels, check_ratios


def small_net() -> nn.Sequential:
    return nn.Sequential(SlimConv2d(3, 32, 3), SlimBatchNorm2d(32, widths=(1.0, 0.5)), nn.ReLU())


@pytest.mark.parametrize(
    ('channels', 'width', 'expected'),
    [
        (64, 1.0, 64),
        (64, 0.75, 48),
        (64, 0.5, 32),
        (64, 0.25, 16),
        (30, 1.0, 30),
        (24, 0.5, 16),
        (8, 0.25, 8),
        (4, 0.25, 4),
    ],
)
def test_active_channels(channels, width, expected):
    assert active_channels(channels, width) == expected


def test_active_channels_keep_90_percent():
    for channels in range(8, 520, 8):
        for percent in range(10, 101, 5):
            active = active_channels(channels, percent / 100)
            assert active <= channels
            assert active >= 0.9 * channels * percent / 100
            assert active % 8 == 0


def test_set_width_reaches_every_layer_of_one_model_only():
    first, second = small_net(), small_net()
    mmmutual.set_width(first, 0.5)
    assert mmmutual.get_width(first) == 0.5
    assert mmmutual.get_width(second) == 1.0
    assert first(torch.rand(2, 3, 8, 8)).shape[1] == 16
    assert second(torch.rand(2, 3, 8, 8)).shape[1] == 32


def test_use_width_restores_after_an_error():
    model = small_net()
    mmmutual.set_width(model, 0.5)
    with pytest.raises(RuntimeError, match='inside'), mmmutual.use_width(model, 1.0):
        assert mmmutual.get_width(model) == 1.0
        raise RuntimeError('inside')
    assert mmmutual.get_width(model) == 0.5


def test_use_width_restores_layers_of_different_widths():
    model = small_net()
    mmmutual.set_width(model[0], 0.5)
    with mmmutual.use_width(model, 1.0):
        pass
    assert [model[0].width, model[1].width] == [0.5, 1.0]
    with pytest.raises(ValueError, match=r'different widths: \[0.5, 1.0\]'):
        mmmutual.get_width(model)


def test_unknown_width_changes_nothing():
    model = small_net()
    with pytest.raises(ValueError, match=r'width 0.3 has no batch-norm statistics.*\[1.0, 0.5\].*calibrate'):
        mmmutual.set_width(model, 0.3)
    assert mmmutual.get_width(model) == 1.0


def test_nothing_to_slim():
    with pytest.raises(ValueError, match='Linear has no slimmable layer.*SlimmableResNet'):
        mmmutual.set_width(nn.Linear(2, 2), 0.5)


@pytest.mark.parametrize('width', [0, -0.5, 1.01, float('nan'), float('inf')])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match='width must be above 0 and at most 1'):
        mmmutual.set_width(small_net(), width)


@pytest.mark.parametrize('width', ['0.5', None, True, [0.5]])
def test_width_no_number(width):
    with pytest.raises(TypeError, match='width must be a number above 0 and at most 1'):
        mmmutual.set_width(small_net(), width)


@pytest.mark.parametrize(
    ('widths', 'error', 'text'),
    [
        ((), ValueError, 'widths is empty'),
        ((1.0, 0.5, 0.5), ValueError, r'widths must not repeat a value, but \[0.5\]'),
        ((1.0, 0.0), ValueError, 'each of widths must be above 0 and at most 1.*got 0.0'),
        ((1.5, 1.0), ValueError, 'each of widths must be above 0 and at most 1.*got 1.5'),
        ((1.0, 'half'), TypeError, "each of widths must be a number.*got 'half'"),
        (0.5, TypeError, 'widths must be a list of numbers.*got 0.5'),
        ('1.0', TypeError, "widths must be a list of numbers.*got '1.0'"),
    ],
)
def test_wrong_widths(widths, error, text):
    with pytest.raises(error, match=text):
        check_ratios(widths)


def test_any_order_is_fine():
    assert check_ratios([0.25, 1, 0.5]) == (1.0, 0.5, 0.25)
    assert check_ratios([0.1 + 0.2]) == (0.3,)
