"""The calibration hook: when it calibrates in a training, and what it leaves as it was."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from torch.utils.data import DataLoader

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from mmmutual.engine.calibration_data import calibration_loader
from mmmutual.engine.hooks import calibration_hook
from mmmutual.evaluation import subnet_rows
from tests.support.tiny import build_runner, find_hook, run_training, tiny_config, without_validation


def test_the_averaged_model_is_calibrated_for_its_own_weights(tiny_data, tmp_path):
    config = without_validation(tiny_config(tiny_data, tmp_path))
    config.custom_hooks += [dict(type='BNCalibrationHook', num_batches=4), dict(type='EMAHook', momentum=0.5)]
    config.train_dataloader.sampler.shuffle = False
    config.train_dataloader.dataset.pipeline = [
        t for t in config.train_dataloader.dataset.pipeline if t.type != 'RandomFlip'
    ]
    runner = run_training(config)
    saved = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']
    model = build_runner(tiny_config(tiny_data, tmp_path)).model
    model.load_state_dict(saved)
    assert not torch.equal(saved['backbone.conv1.weight'], runner.model.backbone.conv1.weight)
    mmmutual.calibrate(model, list(runner.train_dataloader))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, saved[name], msg=lambda m: f'{name}: {m}')


@pytest.mark.parametrize('loop', ['epochs', 'iterations'])
def test_the_last_checkpoint_is_calibrated_and_switches_without_data(loop, tiny_data, tmp_path):
    config = without_validation(tiny_config(tiny_data, tmp_path))
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=4, widths=(1.0, 0.75, 0.5, 0.4, 0.25)))
    if loop == 'iterations':
        config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=1000)
        config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        config.default_hooks.checkpoint.update(by_epoch=False, interval=4)
    config.optim_wrapper.optimizer.lr = 0.0  # the weights that were calibrated are those that were saved
    trained = run_training(config)
    path = tmp_path / ('epoch_1.pth' if loop == 'epochs' else 'iter_4.pth')
    fresh = build_runner(tiny_config(tiny_data, tmp_path)).model.eval()
    fresh.load_state_dict(read_checkpoint(path)['state_dict'])
    x = torch.rand(1, 3, 64, 64)
    for width in (1.0, 0.75, 0.5, 0.4, 0.25):
        with mmmutual.use_width(fresh, width), mmmutual.use_width(trained.model.eval(), width):
            for ours, theirs in zip(fresh.extract_feat(x), trained.model.extract_feat(x)):
                assert torch.equal(ours, theirs)
    tracked = [value for name, value in fresh.state_dict().items() if 'num_batches_tracked' in name]
    assert all(value == 1 for value in tracked)


@pytest.fixture
def calibrated(monkeypatch) -> list[int]:
    """Iterations after which the hook calibrates."""
    moments = []

    def note(model, batches, widths, scales):
        moments.append(MessageHub.get_current_instance().get_info('iter') + 1)

    monkeypatch.setattr(calibration_hook, 'calibrate', note)
    return moments


def short_run(data, work_dir, **options):
    """One iteration an epoch."""
    config = without_validation(tiny_config(data, work_dir))
    config.train_dataloader.dataset.indices = 2
    config.train_cfg.max_epochs = 3
    config.custom_hooks = [dict(type='BNCalibrationHook', num_batches=1, **options)]
    return config


@pytest.mark.parametrize(
    ('interval', 'last_only', 'moments'), [(1, False, [1, 2, 3]), (2, False, [2, 3]), (1, True, [3])]
)
def test_the_hook_calibrates_once_for_each_checkpoint(interval, last_only, moments, calibrated, tiny_data, tmp_path):
    config = short_run(tiny_data, tmp_path, last_only=last_only)
    config.default_hooks.checkpoint.interval = interval
    run_training(config)
    assert calibrated == moments


def test_checkpoints_of_iterations_are_calibrated_too(calibrated, tiny_data, tmp_path):
    config = short_run(tiny_data, tmp_path)
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=5, val_interval=1000)
    config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    config.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    run_training(config)
    assert calibrated == [2, 4, 5]


def test_a_validation_and_a_best_checkpoint_calibrate_no_second_time(calibrated, tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path, **{'train_cfg.val_interval': 1, 'train_cfg.max_epochs': 2})
    config.val_cfg = dict(type='ValLoop')
    config.train_dataloader.dataset.indices = 2
    config.custom_hooks = [dict(type='BNCalibrationHook', num_batches=1)]
    config.default_hooks.checkpoint.update(interval=1, save_best='coco/bbox_mAP', rule='greater')
    run_training(config)
    assert calibrated == [1, 2]


def test_a_validation_may_come_before_the_first_checkpoint_and_the_first_pass_of_a_width(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path, **{'train_cfg.val_interval': 1})
    config.train_dataloader.dataset.indices = 2
    find_hook(config).num_subnets = 2  # the widest and the narrowest
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=1))
    config.default_hooks.checkpoint.interval = 5
    config.val_cfg.widths = (1.0, 0.5)
    assert len(subnet_rows(run_training(config).val_loop)) == 2


def test_the_data_set_is_not_built_again(tiny_data, tmp_path, monkeypatch):
    runner = build_runner(short_run(tiny_data, tmp_path))
    data = runner.train_loop.dataloader.dataset
    monkeypatch.setattr(type(data), '__init__', lambda *args, **kwargs: pytest.fail('read again'))
    for _ in range(2):
        loader = calibration_loader(runner)
        assert loader.dataset is data and loader is not runner.train_dataloader


def test_persistent_workers_of_a_loader_without_a_config_are_left_alone():
    options = dict(batch_size=2, num_workers=1, persistent_workers=True)
    loader = DataLoader(list(range(8)), **options)
    runner = SimpleNamespace(cfg={}, train_dataloader=loader)
    seen = []
    for _, batch in zip(range(4), loader):
        seen.append(batch.tolist())
        next(iter(calibration_loader(runner)))
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7]]


class Stop(Hook):
    """Ends the training after its first iteration, as EarlyStoppingHook does."""

    def after_train_epoch(self, runner):
        runner.train_loop.stop_training = True


@pytest.mark.parametrize('last_only', [False, True])
def test_an_early_stop_leaves_calibrated_weights_or_says_that_the_checkpoint_is_not(
    last_only, calibrated, tiny_data, tmp_path
):
    runner = build_runner(short_run(tiny_data, tmp_path, last_only=last_only))
    runner.register_hook(Stop())
    messages = []
    runner.logger.warning = messages.append
    runner.train()
    assert calibrated == [1]
    said = [message for message in messages if 'after 1 of 3 iterations' in message]
    assert bool(said) == last_only
    assert not said or 'tools/misc/calibrate.py' in said[0]


def test_calibration_before_a_checkpoint_does_not_change_the_training(tiny_data, tmp_path):
    states = []
    for name, last_only in (('each', False), ('last', True)):
        config = short_run(tiny_data, tmp_path / name, last_only=last_only)
        config.train_dataloader.dataset.indices = 4
        config.train_cfg.max_epochs = 2
        states.append(run_training(config).model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items() if 'num_batches' not in name)


def test_a_model_with_group_norms_has_nothing_to_calibrate(tiny_data, tmp_path):
    config = short_run(tiny_data, tmp_path)
    config.model.backbone.norm_cfg = dict(type='GN', num_groups=4)
    runner = build_runner(config)
    messages = []
    runner.logger.info = messages.append
    runner.train()
    assert (tmp_path / 'epoch_3.pth').exists()
    said = [message for message in messages if 'BNCalibrationHook has nothing to calibrate: MaskRCNN' in message]
    assert len(said) == 1
