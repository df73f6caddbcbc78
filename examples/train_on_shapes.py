"""Draw a small data set and train a Mask R-CNN whose sub-networks have 4 widths and 3 input scales.

Usage::

    python examples/train_on_shapes.py                           # 1000 iterations, minutes on a CPU
    python examples/train_on_shapes.py --images 40 --epochs 1    # 10 iterations: a first look
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.runner import Runner

from mmmutual.checkpoint import latest_checkpoint
from mmmutual.config import load_config
from mmmutual.datasets import draw_shapes
from mmmutual.engine import prepare

CONFIG = Path(__file__).parents[1] / 'configs' / 'mutual_mask_rcnn_r18_shapes.py'


def main() -> None:
    """Draw, train, and print the checkpoint."""
    parser = argparse.ArgumentParser(description='Train a detector with MutualNet on drawn shapes')
    parser.add_argument('--data', type=Path, default=Path('data/shapes'), help='folder of the data set')
    parser.add_argument('--images', type=int, default=1000, help='training images; an iteration uses 4')
    parser.add_argument('--val-images', type=int, default=100)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--work-dir', default='work_dirs/example')
    args = parser.parse_args()

    draw_shapes(args.data, num_train=args.images, num_val=args.val_images)

    # The config is MMDetection's, with a slimmable backbone and neck, MutualLearningHook, calibration and the
    # evaluation of sub-networks. These settings replace some, as --cfg-options does.
    annotations = str(args.data / 'annotations' / 'val.json')
    settings = {
        'train_cfg.max_epochs': args.epochs,
        'train_cfg.val_interval': args.epochs,  # evaluate each width at the end
        'param_scheduler.1.end': args.epochs,
        'val_evaluator.ann_file': annotations,
        'test_evaluator.ann_file': annotations,
    }
    for split in ('train', 'val', 'test'):
        settings[f'{split}_dataloader.dataset.data_root'] = f'{args.data}/'
    config = load_config(CONFIG, settings)
    config.work_dir = args.work_dir

    prepare(config, splits=('train', 'val'))  # data, classes and checkpoints are checked before a model is built
    Runner.from_cfg(config).train()
    print(f'checkpoint: {latest_checkpoint(args.work_dir)}')


if __name__ == '__main__':
    main()
