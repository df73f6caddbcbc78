"""The config of a stock training becomes that of a short fine-tuning, for each kind of schedule."""

import copy

import pytest
from mmengine.config import Config, ConfigDict

import mmmutual.config.fine_tuning as module
from mmmutual.config import load_config, make_fine_tuning

STEPS = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
YOLOX = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'


def stock(name: str, **options) -> Config:
    return load_config(name, options)


def schedule(warm_up: int, iterations: int) -> list[dict]:
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warm_up),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=warm_up, end=iterations),
    ]


def test_steps_of_a_1x_schedule_are_replaced():
    config = stock(STEPS)
    before = copy.deepcopy(config.to_dict())
    tuned = make_fine_tuning(config, 1, 7330)
    assert config.to_dict() == before
    assert tuned.optim_wrapper.optimizer == {**before['optim_wrapper']['optimizer'], 'lr': 0.02}
    assert tuned.param_scheduler == schedule(500, 7330)
    assert tuned.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=1, val_begin=2)
    assert tuned.default_hooks.checkpoint == dict(type='CheckpointHook', by_epoch=True, interval=1, _scope_='mmdet')


def test_short_trainings_warm_up_for_a_tenth_and_an_empty_one_has_no_schedule():
    config = stock(STEPS)
    assert make_fine_tuning(config, 2, 250).param_scheduler == schedule(50, 500)
    assert make_fine_tuning(config, 1, 3).param_scheduler == schedule(0, 3)[1:]
    empty = make_fine_tuning(config, 0, 250)
    assert empty.param_scheduler is None
    assert (empty.train_cfg.max_epochs, empty.train_cfg.val_begin) == (0, 1)


@pytest.mark.parametrize('loop', [dict(type='IterBasedTrainLoop'), dict(by_epoch=False)], ids=str)
def test_a_loop_over_iterations_gets_those_of_the_epochs(loop):
    config = stock(STEPS)
    config.train_cfg = dict(loop, max_iters=90000, val_interval=10000, dynamic_intervals=[(80000, 500)])
    config.default_hooks.checkpoint.update(by_epoch=False, interval=10000, max_keep_ckpts=2, save_best='auto')
    tuned = make_fine_tuning(config, 2, 250)
    assert tuned.train_cfg == dict(type='IterBasedTrainLoop', max_iters=500, val_begin=501)
    assert tuned.default_hooks.checkpoint == dict(
        type='CheckpointHook', by_epoch=False, interval=250, max_keep_ckpts=2, _scope_='mmdet'
    )


def test_the_highest_rate_of_a_cycle_counts():
    config = stock(STEPS, **{'optim_wrapper.optimizer.lr': 1e-4})
    config.param_scheduler = ConfigDict(type='OneCycleLR', eta_max=0.01, total_steps=90000, by_epoch=False)
    assert make_fine_tuning(config, 1, 100).optim_wrapper.optimizer.lr == 0.01


def test_settings_of_single_parameters_and_hooks_that_average_stay():
    config = stock(RTMDET)
    tuned = make_fine_tuning(config, 1, 100)
    assert tuned.optim_wrapper.paramwise_cfg == config.optim_wrapper.paramwise_cfg
    assert tuned.custom_hooks[0] == config.custom_hooks[0] and tuned.custom_hooks[0].type == 'EMAHook'
    assert 'dynamic_intervals' not in tuned.train_cfg


def test_rtmdet_trains_with_its_last_pipeline():
    config = stock(RTMDET)
    tuned = make_fine_tuning(config, 1, 100)
    assert 'CachedMosaic' in str(config.train_dataloader) and 'CachedMosaic' not in str(tuned.train_dataloader)
    assert tuned.train_dataloader.dataset.pipeline == config.custom_hooks[1].switch_pipeline
    assert [hook.type for hook in tuned.custom_hooks] == ['EMAHook']


def test_a_data_set_without_a_pipeline_switches_in_the_first_epoch():
    config = stock(RTMDET)
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[config.train_dataloader.dataset])
    assert make_fine_tuning(config, 1, 100).custom_hooks[1].switch_epoch == 0


def test_yolox_trains_with_its_last_pipeline_and_loss():
    tuned = make_fine_tuning(stock(YOLOX), 3, 100)
    assert tuned.train_dataloader.dataset.skip_type_keys == ['Mosaic', 'RandomAffine', 'MixUp']
    assert tuned.custom_hooks[0].type == 'YOLOXModeSwitchHook' and tuned.custom_hooks[0].num_last_epochs == 3


def test_another_hook_that_switches_is_named(monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    config = stock(STEPS)
    config.custom_hooks = [dict(type='OwnSwitchHook', switch_epoch=10)]
    assert make_fine_tuning(config, 1, 100).custom_hooks == config.custom_hooks
    assert said == [
        'custom_hooks has OwnSwitchHook, which stays: if it switches at an epoch, set that epoch for epochs=1'
    ]


def test_the_test_data_are_the_validation_data():
    config = stock(STEPS)
    config.test_dataloader.dataset.ann_file = 'annotations/image_info_test-dev2017.json'
    config.test_evaluator = dict(type='CocoMetric', format_only=True, outfile_prefix='test')
    config.test_cfg = dict(type='TestLoop', fp16=True)
    tuned = make_fine_tuning(config, 1, 100)
    assert (tuned.test_dataloader, tuned.test_evaluator) == (config.val_dataloader, config.val_evaluator)
    assert tuned.test_cfg == dict(type='TestLoop', fp16=True)


def test_an_unknown_loop_and_a_missing_rate_are_named():
    config = stock(STEPS)
    config.train_cfg.type = 'OwnLoop'
    with pytest.raises(
        ValueError, match='train_cfg.type must be one of EpochBasedTrainLoop, .* the config has OwnLoop'
    ):
        make_fine_tuning(config, 1, 100)
    config = stock(STEPS)
    del config.optim_wrapper.optimizer['lr']
    with pytest.raises(
        ValueError, match='optim_wrapper.optimizer.lr must be a number, but the config has None: set it in a copy'
    ):
        make_fine_tuning(config, 1, 100)
