"""Configs of classifiers for the tests, the tiny digits among them."""

from mmengine.config import Config

from tests.support.tiny import ROOT

FOLDER = f'{ROOT}/configs/pretrain'


def load(name: str) -> Config:
    return Config.fromfile(f'{FOLDER}/{name}.py')


def tiny_digits(work_dir, **options) -> Config:
    """Digits for a few iterations, without logs."""
    config = load('mutual_resnet18_digits')
    config.work_dir, config.log_level = str(work_dir), 'ERROR'
    config.visualizer.update(vis_backends=[])
    config.train_dataloader.dataset.indices = 256
    config.val_dataloader.dataset.indices = config.test_dataloader.dataset.indices = 128
    config.train_cfg.update(max_epochs=1, val_interval=100)
    config.param_scheduler = None
    config.merge_from_dict(options)
    return config
