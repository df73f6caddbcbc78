"""Calibrate a checkpoint's batch norms: python tools/misc/calibrate.py CONFIG CHECKPOINT --widths ... -o OUT."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.runner import Runner, save_checkpoint

import mmmutual
from mmmutual.checkpoint import load_model
from mmmutual.config import load_config, require
from mmmutual.engine import clear_errors, prepare
from mmmutual.progress import Progress


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Recompute the batch-norm statistics of a checkpoint on training images, for the trained widths or '
        'for other ones. The calibrated checkpoint has the statistics of all these widths.'
    )
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('-o', '--out', required=True, help='the calibrated checkpoint')
    parser.add_argument('--widths', nargs='+', type=float, help="width multipliers; default: the checkpoint's widths")
    parser.add_argument(
        '--scales', nargs='+', type=float, default=[1.0], help='input scales of the batches, in turns; default: 1.0'
    )
    parser.add_argument('--num-batches', type=int, default=100, help='number of training batches to pool; default: 100')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser.parse_args()


def main() -> None:
    """Load, calibrate, save."""
    args = parse_args()
    with clear_errors():
        config = load_config(args.config, args.cfg_options)
        require(config, 'model', 'train_dataloader')
        config.load_from = args.checkpoint
        if args.num_batches < 1:
            raise ValueError(f'--num-batches must be at least 1, but got {args.num_batches}')
        prepare(config, splits=('train',))
        model, checkpoint = load_model(config, args.checkpoint)
        model.to('cuda' if torch.cuda.is_available() else 'cpu')
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
        batches = min(args.num_batches, len(loader))
        mmmutual.calibrate(
            model, Progress(islice(loader, batches), 'Calibrating', batches), args.widths, tuple(args.scales)
        )
    content = {**checkpoint, 'state_dict': model.state_dict()}
    save_checkpoint(content, str(Path(args.out)), backend_args=dict(backend='atomic'))
    norm = next(layer for layer in model.modules() if isinstance(layer, mmmutual.layers.SlimBatchNorm2d))
    print(f'{args.out}: widths {", ".join(f"{width:g}" for width in norm.widths if norm.is_ready(width))}')


if __name__ == '__main__':
    main()
