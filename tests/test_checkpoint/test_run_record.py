"""A run is continued by its own command only, and a new run does not overwrite another one."""

import copy

import pytest
import torch
from mmengine.config import Config

from mmmutual.checkpoint import check_new_run, continue_run, finished_length, record_run


@pytest.fixture
def run(tmp_path) -> tuple[Config, str]:
    """The config of a run that has begun, and the weights that it started from."""
    checkpoint = str(tmp_path / 'stock.pth')
    torch.save(dict(state_dict={}), checkpoint)
    config = Config(
        dict(
            model=dict(type='SlimmableDetector', widths=(1.0, 0.5)),
            train_cfg=dict(max_epochs=1),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='ChannelOrderHook', importance='l1')],
            train_dataloader=dict(batch_size=2),
            test_dataloader=dict(batch_size=1),
            test_evaluator=dict(type='CocoMetric'),
            test_cfg=dict(type='SubnetTestLoop', scales=(1.0, 0.5)),
            load_from=checkpoint,
            resume=False,
            work_dir=str(tmp_path / 'work'),
        )
    )
    record_run(config, checkpoint)
    return config, checkpoint


@pytest.mark.parametrize(('option', 'value'), [
    ('model.widths', (1.0, 0.25)),
    ('train_cfg.max_epochs', 2),
    ('optim_wrapper.type', 'AmpOptimWrapper'),
    ('optim_wrapper.optimizer.lr', 0.2),
    ('param_scheduler', [dict(type='LinearLR')]),
    ('auto_scale_lr', dict(enable=True, base_batch_size=16)),
    ('custom_hooks.0.importance', 'l2'),
    ('randomness', dict(seed=1)),
    ('train_dataloader.batch_size', 4),
    ('test_dataloader.batch_size', 4),
    ('test_evaluator.type', 'Other'),
    ('test_cfg.scales', (1.0,)),
])  # fmt: skip
def test_other_settings(option, value, run):
    config, checkpoint = run
    other = copy.deepcopy(config)
    other.merge_from_dict({option: value})
    name = option.split('.')[0]
    with pytest.raises(
        ValueError,
        match=f'^--resume continues a run of the same command, but that in .*work had another {name}: repeat its '
        'command, or choose another --work-dir$',
    ):
        continue_run(other, checkpoint)


def test_other_weights(run, tmp_path):
    config, checkpoint = run
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), checkpoint)
    with pytest.raises(ValueError, match='had another CHECKPOINT: '):
        continue_run(config, checkpoint)


def test_a_run_without_a_checkpoint_starts_again(run):
    config, checkpoint = run
    continued, finished = continue_run(copy.deepcopy(config), checkpoint)
    assert continued.to_dict() == config.to_dict() and finished is None


def test_a_finished_training_is_not_resumed(run, tmp_path):
    config, checkpoint = run
    for epoch, finished in ((0, None), (1, 'epoch 1 of 1')):
        path = str(tmp_path / 'work' / f'epoch_{epoch}.pth')
        torch.save(dict(state_dict={}, meta=dict(epoch=epoch, iter=4 * epoch)), path)
        (tmp_path / 'work' / 'last_checkpoint').write_text(path)
        continued, found = continue_run(config, checkpoint)
        assert found == finished
        assert (continued.load_from, continued.resume) == (path, finished is None)
        assert (config.load_from, config.resume) == (checkpoint, False)


def test_no_run(run, tmp_path):
    config, checkpoint = run
    config.work_dir = str(tmp_path / 'none')
    with pytest.raises(
        FileNotFoundError,
        match='but there is none in .*none: it has no run.json. Omit --resume, or pass the --work-dir of the run$',
    ):
        continue_run(config, checkpoint)


@pytest.mark.parametrize('name', ['last_checkpoint', 'epoch_3.pth', 'iter_500.pth'])
def test_a_new_run_does_not_overwrite_another_one(name, run, tmp_path):
    check_new_run(tmp_path / 'none')
    check_new_run(tmp_path / 'work')  # it was interrupted before it wrote a checkpoint
    (tmp_path / 'work' / name).touch()
    with pytest.raises(
        ValueError,
        match=f'work has a run already, which wrote {name}: continue a run of the same command with --resume, or choose '
        'another --work-dir$',
    ):
        check_new_run(tmp_path / 'work')


@pytest.mark.parametrize(('loop', 'length'), [
    (dict(max_epochs=2), 'epoch 2 of 2'),
    (dict(max_epochs=3), None),
    (dict(max_iters=500), 'iter 500 of 500'),
    (dict(max_iters=501), None),
    (dict(max_epochs=0), 'epoch 2 of 0'),
])  # fmt: skip
def test_the_length_of_a_finished_training(loop, length):
    assert finished_length(loop, dict(meta=dict(epoch=2, iter=500))) == length
