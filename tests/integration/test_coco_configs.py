"""Two epochs of the COCO configs of Swin-T and RTMDet-s, on tiny images, with their pipelines, optimizers and hooks."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook

import mmmutual
from mmmutual.config_tree import rebuilt
from mmmutual.layers import SlimBatchNorm2d
from mmmutual.testing.small_config import shrink
from tests.support.tiny import ROOT, build_runner, find_hook, tiny_config

WIDTHS = (1.0, 0.5, 0.25)
SMALLER = {1333: 96, 800: 64, 1280: 128, 640: 64, 80: 4}  # sizes of images, and classes


def small(name: str, data: Path, work_dir: Path) -> Config:
    shapes = tiny_config(data, work_dir)
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py').to_dict()
    config = shrink(Config(rebuilt(config, lambda node: SMALLER.get(node, node) if type(node) is int else node)))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        pipeline = config[key].dataset.pipeline
        config[key] = dict(shapes[key], dataset=dict(shapes[key].dataset, pipeline=pipeline, indices=2))
    config.val_evaluator = config.test_evaluator = dict(shapes.val_evaluator, metric='bbox')
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
    config.val_cfg.update(num_widths=2)
    config.visualizer.update(vis_backends=[])
    config.update(work_dir=str(work_dir), param_scheduler=None, log_level='ERROR')
    return config


@pytest.mark.parametrize('name', ['mutual_mask_rcnn_swin_t', 'mutual_rtmdet_s'])
def test_trains_and_evaluates(name, tiny_data, tmp_path):
    config = small(name, tiny_data, tmp_path)
    if 'rtmdet' in name:
        find_hook(config, 'PipelineSwitchHook').switch_epoch = 1
        find_hook(config, 'BNCalibrationHook').num_batches = 1
        config.model.widths = WIDTHS
    else:
        config.model.backbone.depths = [1, 1, 1, 1]
    runner = build_runner(config)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert mmmutual.get_width(runner.model) == 1.0 and saved.keys() == before.keys()
    assert all(value.isfinite().all() for value in saved.values())
    assert any(not torch.equal(value, before[key]) for key, value in saved.items() if 'backbone' in key)
    if 'rtmdet' in name:
        assert 'CachedMosaic' not in str(runner.train_dataloader.dataset.pipeline)
        (average,) = (hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook))
        norms = [layer for layer in average.modules() if isinstance(layer, SlimBatchNorm2d)]
        assert norms and all(norm.is_ready(width) for norm in norms for width in WIDTHS)
        weight = 'bbox_head.cls_convs.0.0.bn.running_mean_at_0_25'
        assert torch.equal(average.state_dict()[weight], saved[weight])
