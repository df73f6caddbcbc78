"""Compare the speed of mmmutual with static networks built in the same run: python benchmarks/run.py.

Every part first checks that the compared networks compute the same. Calls take turns in one process. A row has the
median of the rounds with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.utils import register_all_modules

from mmmutual.evaluation import device_name
from speed import calibration, counting, evaluation, inference, masks, memory, startup, switching, training
from speed.options import CONFIGS, Options
from speed.table import Row, as_markdown, as_text

SIZES = dict(cpu=(320, 512), cuda=(608, 1024))
ROUNDS = dict(cpu=11, cuda=50)
WIDTHS = (1.0, 0.75, 0.5, 0.25)
PARTS = ('inference', 'switching', 'training', 'masks', 'memory', 'evaluation', 'calibration', 'counting', 'import')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare the speed of mmmutual with static networks')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--quick', action='store_true', help='check that all parts run, with a small network and few rounds'
    )
    parser.add_argument(
        '--parts', nargs='+', default=PARTS, choices=PARTS, metavar='PART', help=f'default: {" ".join(PARTS)}'
    )
    parser.add_argument('--config', type=Path, help='config of a slimmable detector; default: Mask R-CNN R-50')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'), help='size of the images in pixels')
    parser.add_argument('--batch-size', type=int, default=2, help='images in a training iteration; default: 2')
    parser.add_argument('--rounds', type=int, help='number of timed rounds')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/speed.json'),
        help='JSON file for all rounds; default: work_dirs/speed.json',
    )
    return parser.parse_args()


def make_options(args: argparse.Namespace) -> Options:
    """The options of the parts. Defaults depend on the device and on --quick."""
    name = 'mutual_mask_rcnn_r18_shapes' if args.quick else 'mutual_mask_rcnn_r50'
    size = args.size or ((128, 128) if args.quick else SIZES[args.device])
    rounds = args.rounds or (2 if args.quick else ROUNDS[args.device])
    config = args.config or CONFIGS / f'{name}.py'
    return Options(config, args.device, tuple(size), WIDTHS, rounds, args.batch_size, args.threads)


def parts(options: Options, quick: bool) -> dict[str, Callable[[], list[Row]]]:
    """The function that measures each part."""
    return {
        'inference': lambda: inference.measure(options),
        'switching': lambda: switching.measure(options),
        'training': lambda: training.measure(options),
        'masks': lambda: masks.measure(options),
        'memory': lambda: memory.measure(options, rounds=1 if quick else 3),
        'evaluation': lambda: evaluation.measure(options, images=4 if quick else 16),
        'calibration': lambda: calibration.measure(options),
        'counting': lambda: counting.measure(options),
        'import': lambda: startup.measure(rounds=1 if quick else 7),
    }


def main() -> None:
    """Measure and print each part; then print all as a table for the docs."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    options = make_options(args)
    height, width = options.size
    setting = (
        f'{options.config_path.stem}, {height} x {width} pixels, {options.rounds} rounds, '
        f'{device_name(torch.device(options.device))}, {args.threads} threads, torch {torch.__version__}, '
        f'Python {platform.python_version()}'
    )
    print(setting)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name, measure in parts(options, args.quick).items():
        if name in args.parts:
            found = measure()
            print(f'\n{name}\n{as_text(found)}', flush=True)
            rows += found
            args.out.write_text(
                json.dumps(dict(setting=setting, rows=[row.as_dict() for row in rows]), indent=2) + '\n'
            )
    print(f'\n{as_markdown(rows)}\n\nwritten: {args.out}')


if __name__ == '__main__':
    main()
