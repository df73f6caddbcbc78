"""Draw the same images detected at each width: python tools/analysis_tools/show_widths.py CONFIG CHECKPOINT."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmmutual.apis import clear_errors, load_model, prepare, show_widths


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Draw test images with the detections of each width side by side')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('-o', '--out', help='the picture; default: work_dirs/NAME_OF_CONFIG/widths.png')
    parser.add_argument('--widths', nargs='+', type=float, help='width multipliers; default: those of test_cfg')
    parser.add_argument('--images', nargs='+', type=int, default=[0, 1, 2, 3], help='indices of test images')
    parser.add_argument('--score-thr', type=float, default=0.5, help='leave detections below this score out')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser.parse_args()


def main() -> None:
    """Load, detect, draw."""
    args = parse_args()
    with clear_errors():
        config = Config.fromfile(args.config)
        config.merge_from_dict(args.cfg_options or {})
        prepare(config, splits=('test',))
        model, _ = load_model(config, args.checkpoint, needs_detector='a picture of detections')
        model.to('cuda' if torch.cuda.is_available() else 'cpu')
        widths = args.widths or config.test_cfg.get('widths')
        if not widths:
            raise ValueError('no widths: give --widths, since test_cfg of the config has none')
        loader = Runner.build_dataloader({**config.test_dataloader, 'batch_size': 1})
        for index in args.images:
            if not 0 <= index < len(loader.dataset):
                raise ValueError(f'--images {index}: the test data has {len(loader.dataset)} images, from 0')
        batches = [loader.collate_fn([loader.dataset[index]]) for index in args.images]
        out = args.out or Path(config.get('work_dir') or f'./work_dirs/{Path(args.config).stem}') / 'widths.png'
        path = show_widths(model, batches, tuple(widths), out, loader.dataset.metainfo, args.score_thr)
    print(f'picture: {path}')


if __name__ == '__main__':
    main()
