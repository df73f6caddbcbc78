"""Batches to train on, and drawn images for the parts that load data."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from mmdet.testing import demo_mm_inputs
from mmengine.config import Config

from mmmutual.datasets import draw_shapes

from .options import CONFIGS, Options

EVALUATION_BATCH = 4


def training_batch(options: Options, config: Config) -> dict:
    """A batch of noise with random objects, boxes and masks, as a data loader yields it."""
    heads = config.model.roi_head.bbox_head if 'roi_head' in config.model else config.model.bbox_head
    return demo_mm_inputs(
        options.batch_size,
        image_shapes=[(3, *options.size)] * options.batch_size,
        num_items=[8] * options.batch_size,
        num_classes=heads.num_classes,
        with_mask=True,
        device=options.device,
    )


def drawn_config(folder: Path, image_size: int, images: int) -> Config:
    """The config of the shapes example on a few drawn images, which this process loads and resizes to 128 pixels."""
    root = folder / f'shapes_{image_size}'
    draw_shapes(root, num_train=images, num_val=images, progress=False, image_size=image_size)
    config = Config.fromfile(CONFIGS / 'mutual_mask_rcnn_r18_shapes.py')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(dict(batch_size=EVALUATION_BATCH, num_workers=0, persistent_workers=False))
        loader.dataset.data_root = f'{root}/'
    for evaluator in (config.val_evaluator, config.test_evaluator):
        evaluator.ann_file = f'{root}/annotations/val.json'
    config.work_dir, config.log_level = str(folder / 'work'), 'ERROR'
    config.visualizer.update(vis_backends=[])
    return config


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
