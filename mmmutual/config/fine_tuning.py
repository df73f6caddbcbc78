"""Turn the config of a stock training into the config of a short fine-tuning."""

from __future__ import annotations

import copy
import logging

from mmengine.config import Config
from mmengine.logging import print_log

from mmmutual.config_tree import type_name
from mmmutual.number_checks import is_number

WARM_UP, WARM_UP_START = 500, 0.1  # iterations (at most a tenth of the training), and the factor they start with
LAST_RATE = 0.02  # the share of the learning rate that the cosine ends with
LOOPS = {'EpochBasedTrainLoop': 'max_epochs', 'IterBasedTrainLoop': 'max_iters'}
BEST = ('save_best', 'rule', 'greater_keys', 'less_keys', 'save_begin')  # settings of CheckpointHook for validations
MOSAIC = ('Mosaic', 'RandomAffine', 'MixUp')  # left out by YOLOXModeSwitchHook


def make_fine_tuning(config: Config, epochs: int, epoch_length: int) -> Config:
    """Change the schedule of a stock config to that of a short fine-tuning.

    =================== ================================================================================================
    setting             value, and its reason
    =================== ================================================================================================
    learning rate       the config's highest one: the narrow networks have much to learn
    ``param_scheduler`` linear warm-up over a tenth of the training and at most 500 iterations, since the optimizer
                        starts without a state; then a cosine down to 2 %. The config's own schedule belongs to a longer
                        training. The factors of single parameters (``paramwise_cfg``) stay.
    ``train_cfg``       ``epochs``; in a loop over iterations, their number of iterations. There is no validation during
                        the training, since an evaluation of all sub-networks follows.
    checkpoints         one after each epoch
    pipeline            that of the last epochs of the stock training, if a hook of the config switches the pipeline
    ``test_dataloader`` the validation data and its evaluator, since the test data of a config may have no annotations
    =================== ================================================================================================

    Args:
        config: A stock config with training and validation data.
        epochs: Epochs to train, at least 0.
        epoch_length: Iterations of an epoch.

    Returns:
        A new config. All other settings stay, for example hooks that average the weights.

    Raises:
        ValueError: If the length of the training loop cannot be set, or if the config has no learning rate.
    """
    config = copy.deepcopy(config)
    _test_on_validation(config)
    _use_last_pipeline(config, epochs)
    _set_length(config, epochs, epoch_length)
    _set_learning_rate(config, epochs * epoch_length)
    return config


def _test_on_validation(config: Config) -> None:
    half = (config.get('test_cfg') or {}).get('fp16')
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    config.test_evaluator = copy.deepcopy(config.val_evaluator)
    config.test_cfg = dict(type='TestLoop', **(dict(fp16=half) if half else {}))


def _use_last_pipeline(config: Config, epochs: int) -> None:
    """Start with the pipeline that a hook switches to in the last epochs; batch norms are calibrated with it too."""
    dataset, hooks = config.train_dataloader.dataset, config.get('custom_hooks') or []
    for hook in list(hooks):
        kind = type_name(hook)
        if kind == 'YOLOXModeSwitchHook':
            dataset.skip_type_keys = list(hook.get('skip_type_keys', MOSAIC))
            hook.num_last_epochs = epochs  # it also adds the L1 loss of these epochs
        elif kind == 'PipelineSwitchHook' and 'pipeline' in dataset:
            dataset.pipeline = hook.switch_pipeline
            hooks.remove(hook)
        elif kind == 'PipelineSwitchHook':
            hook.switch_epoch = 0
        elif 'Switch' in kind:
            message = f'custom_hooks has {kind}, which stays: if it switches at an epoch, set that epoch for {epochs=}'
            print_log(message, logger='current', level=logging.WARNING)


def _set_length(config: Config, epochs: int, epoch_length: int) -> None:
    loop = config.train_cfg
    kind = type_name(loop) or ('EpochBasedTrainLoop' if loop.get('by_epoch', True) else 'IterBasedTrainLoop')
    if kind not in LOOPS:
        raise ValueError(
            f'train_cfg.type must be one of {", ".join(LOOPS)}, whose length is known, but the config has {kind}: '
            'change it in a copy of the config'
        )
    by_epoch = kind == 'EpochBasedTrainLoop'
    length = epochs if by_epoch else epochs * epoch_length
    config.train_cfg = {'type': kind, LOOPS[kind]: length, 'val_begin': length + 1}
    hooks = config.setdefault('default_hooks', {})
    checkpoint = hooks.get('checkpoint') or dict(type='CheckpointHook')
    hooks['checkpoint'] = {
        **{name: value for name, value in checkpoint.items() if name not in BEST},
        'by_epoch': by_epoch,
        'interval': 1 if by_epoch else epoch_length,
    }


def _set_learning_rate(config: Config, iterations: int) -> None:
    optimizer = config.optim_wrapper.setdefault('optimizer', {})
    if not is_number(optimizer.get('lr')):
        raise ValueError(
            f'optim_wrapper.optimizer.lr must be a number, but the config has {optimizer.get("lr")!r}: set it in a '
            'copy of the config'
        )
    optimizer.lr = max([optimizer.lr, *_peaks(config)])
    warm_up = min(WARM_UP, iterations // 10)
    schedule = []
    if warm_up:
        schedule.append(dict(type='LinearLR', start_factor=WARM_UP_START, by_epoch=False, begin=0, end=warm_up))
    if iterations:
        span = dict(by_epoch=False, begin=warm_up, end=iterations)
        schedule.append(dict(type='CosineAnnealingLR', eta_min_ratio=LAST_RATE, **span))
    config.param_scheduler = schedule or None


def _peaks(config: Config) -> list[float]:
    """Learning rates that the config's schedule rises to, above that of its optimizer."""
    schedulers = config.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    return [scheduler.eta_max for scheduler in schedulers if type_name(scheduler) == 'OneCycleLR']
