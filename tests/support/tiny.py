"""Tiny configs and runners: the shapes example shrunk to seconds."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from mmmutual.datasets import draw_shapes

ROOT = Path(__file__).parents[2]
SIZE = 64


def draw_tiny(root: Path, num_train: int = 8, num_val: int = 4) -> Path:
    """Draw a few 64 px images with large objects."""
    options = dict(image_size=SIZE, min_size=16, min_objects=1, max_objects=3)
    draw_shapes(root, num_train=num_train, num_val=num_val, progress=False, **options)
    return root


def tiny_config(data: Path, work_dir: Path, name: str = 'mutual_mask_rcnn_r18_shapes', **options) -> Config:
    """The shapes config on tiny images, two to a batch, without validation."""
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    config.work_dir = str(work_dir)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.batch_size = 2
        loader.dataset.data_root = f'{data}/'
        for transform in loader.dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (SIZE, SIZE)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        evaluator.ann_file = f'{data}/annotations/val.json'
    config.model.rpn_head.anchor_generator.strides = [4, 8, 16, 32, 64]
    config.model.test_cfg.rcnn.update(max_per_img=5, score_thr=0.0)
    config.train_cfg.update(max_epochs=1, val_interval=100)
    config.param_scheduler = None
    config.custom_hooks = [hook for hook in config.get('custom_hooks', []) if hook.type != 'BNCalibrationHook']
    for hook in config.custom_hooks:
        if hook.type == 'MutualLearningHook':
            hook.num_subnets = 4  # the paper's, of which two are drawn from all widths
    config.log_level = 'ERROR'
    config.visualizer.update(vis_backends=[])
    config.merge_from_dict(options)
    return config


def find_hook(config: Config, kind: str = 'MutualLearningHook') -> ConfigDict:
    """The settings of a config's first hook of a type."""
    return next(hook for hook in config.custom_hooks if hook.type == kind)


def without_validation(config: Config) -> Config:
    """The config of a run that only trains."""
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    return config


def tiny_retinanet(data: Path, work_dir: Path, **options) -> Config:
    """A one-stage detector, whose training needs no operator that lacks bfloat16 on the CPU."""
    config = tiny_config(data, work_dir)
    slim = config.model
    config.model = Config.fromfile(ROOT / 'tests' / 'data' / 'retinanet.py').model
    config.model.backbone = slim.backbone
    config.model.bbox_head.num_classes = slim.roi_head.bbox_head.num_classes
    config.val_evaluator.metric = config.test_evaluator.metric = 'bbox'
    config.merge_from_dict(options)
    return config


_experiments = 0


def run_training(config: Config) -> Runner:
    """Train with a separate experiment name, since MMEngine keeps one message hub per name."""
    runner = build_runner(config)
    runner.train()
    return runner


def build_runner(config: Config) -> Runner:
    """A runner whose logs and message hub are not shared with another test."""
    global _experiments
    _experiments += 1
    config.experiment_name = f'test_{_experiments}'
    config.visualizer.name = config.experiment_name  # visualizers of one name are one
    return Runner.from_cfg(config)
