"""Averaged models follow widths that are trained, or added, after the copy was made."""

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import ExponentialMovingAverage
from torch import nn

import mmmutual
from mmmutual.engine.averaging import start_averages, swap_statistics
from mmmutual.layers import SlimBatchNorm2d
from tests.support.tiny import build_runner, run_training, tiny_config

WIDTHS = (1.0, 0.5, 0.25)


def network(widths=WIDTHS) -> nn.Module:
    return nn.Sequential(SlimBatchNorm2d(16, widths=widths), SlimBatchNorm2d(16, widths=widths))


def train(model, average, width) -> None:
    """An iteration at one width, as the hooks run it."""
    with mmmutual.use_width(model.train(), width):
        model(torch.randn(8, 16, 2, 2) + 5)
    start_averages(model, average, [width])
    average.update_parameters(model)


@pytest.mark.parametrize('update_buffers', [True, False])
def test_a_width_that_comes_later_is_averaged_from_then_on(update_buffers):
    model = network()
    average = ExponentialMovingAverage(model, momentum=0.5, update_buffers=update_buffers)
    for width in (1.0, 0.5, 1.0):
        train(model, average, width)
    first = model[0].statistics(0.5)[0].clone()
    norm = average.module[0]
    assert norm.is_ready(0.5) and not norm.is_ready(0.25)
    torch.testing.assert_close(norm.statistics(0.5)[0], first)
    train(model, average, 0.5)
    expected = (first + model[0].statistics(0.5)[0]) / 2 if update_buffers else model[0].statistics(0.5)[0]
    torch.testing.assert_close(norm.statistics(0.5)[0], expected)


@pytest.mark.parametrize('update_buffers', [True, False])
def test_a_width_that_is_added_joins_the_averaged_model(update_buffers):
    model = network((1.0, 0.5))
    average = ExponentialMovingAverage(model, momentum=0.5, update_buffers=update_buffers)
    for norm in model:
        norm.add_width(0.75)
    for width in (0.75, 1.0, 0.75):
        train(model, average, width)
    for ours, theirs in zip(model, average.module):
        assert theirs.widths == (1.0, 0.75, 0.5) and theirs.is_ready(0.75)
        equal = torch.equal(ours.statistics(0.75)[0], theirs.statistics(0.75)[0])
        assert equal != update_buffers  # averaged, or the same as the model's
        assert int(theirs.statistics(0.5)[2]) == 0


def test_widths_that_are_added_in_any_order_are_not_exchanged():
    model = network((1.0,))
    average = ExponentialMovingAverage(model)
    for norm in model:
        for width in (0.25, 0.5):
            norm.add_width(width)
    train(model, average, 0.5)
    assert average.module[0].is_ready(0.5) and not average.module[0].is_ready(0.25)
    assert torch.equal(average.module[0].statistics(0.5)[0], model[0].statistics(0.5)[0])


def test_statistics_are_exchanged_where_the_hook_exchanges_parameters_only():
    model = network()
    average = ExponentialMovingAverage(model)
    model[0].set_statistics(0.5, torch.full((16,), 1.0), torch.ones(16))
    average.module[0].set_statistics(0.5, torch.full((16,), 2.0), torch.ones(16))
    swap_statistics(model, average)
    assert model[0].statistics(0.5)[0].tolist() == [2.0] * 16
    assert average.module[0].statistics(0.5)[0].tolist() == [1.0] * 16
    average.update_buffers = True  # now the hook exchanges them itself
    swap_statistics(model, average)
    assert model[0].statistics(0.5)[0].tolist() == [2.0] * 16


def test_checkpoints_of_averaged_buffers_have_statistics_for_every_width(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.custom_hooks += [dict(type='EMAHook', momentum=0.0002, update_buffers=True, priority=49)]
    config.train_cfg.update(val_interval=1)
    runner = run_training(config)
    (ema,) = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    for name, norm in ema.named_modules():
        if isinstance(norm, SlimBatchNorm2d):
            assert all(norm.is_ready(width) for width in norm.widths), name
            assert all(saved[f'{name}.num_batches_tracked_at_0_{digits}'] > 0 for digits in ('25', '5', '75')), name


def test_validation_sees_averaged_weights_with_their_own_statistics(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.custom_hooks += [dict(type='BNCalibrationHook', num_batches=1), dict(type='EMAHook', momentum=0.5)]
    config.train_dataloader.dataset.indices = 4
    config.train_cfg.update(val_interval=1)
    runner = build_runner(config)
    seen = []

    class Spy(Hook):
        def before_val_iter(self, runner, batch_idx, data_batch=None):
            seen.append({name: value.clone() for name, value in runner.model.state_dict().items()})

    runner.register_hook(Spy())
    runner.train()
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert seen
    for name, value in seen[0].items():
        assert torch.equal(value, saved[name]), name
    (ema,) = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
    weights = 'backbone.bn1.running_mean'
    assert torch.equal(ema.state_dict()[weights], saved[weights])
    assert not torch.equal(runner.model.state_dict()[weights], saved[weights])
