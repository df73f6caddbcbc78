"""Configs of short mutual trainings, one for each way to distil and to accumulate."""

from mmengine.config import Config

from tests.support.tiny import find_hook, tiny_config, tiny_retinanet, without_validation

ITERATIONS, SEED = 4, 5
LEARNING_RATE = {tiny_config: 0.01, tiny_retinanet: 1e-4}


def config_for(case: str, data, work_dir) -> Config:
    """The config of a case: SGD, four iterations, everything else as in the case."""
    make = tiny_retinanet if case in ('amp', 'with_cp') else tiny_config
    config = without_validation(make(data, work_dir))
    config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=LEARNING_RATE[make], momentum=0.9))
    config.randomness.seed = SEED
    hook = find_hook(config)
    if case == 'mean':
        hook.loss_reduction = 'mean'
    elif case == 'distill':
        hook.scales = (1.0, 0.75)  # a batch norm of two values has a gradient that magnifies rounding
        config.optim_wrapper.optimizer.lr = 1e-4
        hook.distill = dict(type='PearsonDistillation', module='neck.fpn_convs.0', loss_weight=2.0)
    elif case == 'with_cp':
        hook.scales = (1.0, 0.75)  # as above
    elif case == 'clip':
        config.optim_wrapper.clip_grad = dict(max_norm=0.5)
    elif case == 'accumulate':
        config.optim_wrapper.accumulative_counts = 2
    elif case == 'amp':
        config.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
    elif case == 'iterations':
        config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=100)
        config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        config.default_hooks.checkpoint.by_epoch = False
    return config
