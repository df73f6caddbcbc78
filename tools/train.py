"""Train a detector: python tools/train.py configs/mutual_mask_rcnn_r50.py."""

from __future__ import annotations

import argparse
import sys

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config

from mmmutual.checkpoint import (
    check_mutual,
    check_resumed_scope,
    finished_length,
    latest_checkpoint,
    read_checkpoint,
)
from mmmutual.config import (
    config_name,
    format_changes,
    load_config,
    make_mutual_with_plan,
    override,
    require,
    use_mixed_precision,
    use_scaled_learning_rate,
)
from mmmutual.engine import build_runner, check_model, clear_errors, is_first_process, prepare
from mmmutual.engine.run_options import parse_run_args
from mmmutual.slimming import SCOPES, format_share


def parse_args() -> argparse.Namespace:
    """Read the command line; the options are those of mmdet's tools/train.py."""
    parser = argparse.ArgumentParser(description='Train a detector')
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument(
        '--mutual',
        nargs='?',
        const='backbone',
        choices=SCOPES,
        help="make the config mutual and print the changes; the scope is 'backbone', as in the paper (default), or "
        "'detector'",
    )
    parser.add_argument('--widths', nargs='+', type=float, help='with --mutual: width multipliers to train')
    parser.add_argument('--scales', nargs='+', type=float, help='with --mutual: input scales to train and evaluate')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default: work_dirs/NAME_OF_CONFIG')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a value, from the newest one in the work dir',
    )
    return parse_run_args(parser)


def read_config(args: argparse.Namespace) -> Config:
    """The config with the command line's settings in it."""
    config = load_config(args.config)
    require(config, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    grid = {name: getattr(args, name) for name in ('widths', 'scales') if getattr(args, name) is not None}
    if args.mutual:
        config = _mutual(config, args.mutual, grid)
    elif grid:
        name = next(iter(grid))
        raise ValueError(
            f'--{name} {" ".join(map(str, grid[name]))} needs --mutual, which makes a config mutual: add it, or change '
            f'{name} in a copy of the config if it is already mutual'
        )
    config.launcher = args.launcher
    override(config, args.cfg_options or {})
    config.work_dir = args.work_dir or config.get('work_dir') or f'./work_dirs/{config_name(args.config)}'
    if args.amp:
        use_mixed_precision(config)
    if args.auto_scale_lr:
        use_scaled_learning_rate(config)
    if args.resume is not None:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    return config


def _mutual(stock: Config, scope: str, grid: dict[str, list[float]]) -> Config:
    """Make the config mutual; the first process prints the changes and the slimmable share."""
    mutual, plan = make_mutual_with_plan(stock, scope=scope, **grid)
    if is_first_process():
        print(format_changes(stock, mutual, color=sys.stdout.isatty()))
        print(format_share(plan), flush=True)
    return mutual


def check_start(config: Config) -> dict | None:
    """The checkpoint that training starts from, if it is a local file, read before MMEngine reads it."""
    if config.get('resume') and config.get('load_from') is None:
        config.load_from = latest_checkpoint(config.work_dir)
        config.resume = config.load_from is not None
    checkpoint = config.get('load_from')
    if not checkpoint or '://' in checkpoint:
        return None
    content = read_checkpoint(checkpoint)
    if config.get('resume') and not {'meta', 'message_hub'} <= set(content):
        raise ValueError(
            f'the checkpoint {checkpoint} has weights but no state of a run to resume. Start a new run from it '
            f'with --cfg-options load_from={checkpoint}'
        )
    return content


def finished(config: Config, checkpoint: dict) -> str:
    """A line for the terminal if the resumed run was already finished; else empty."""
    done = finished_length(config.train_cfg, checkpoint)
    if done is None:
        return ''
    return (
        f'nothing was left to train: {config.load_from} is {done}. To continue training, increase '
        f'train_cfg.max_{done.split()[0]}s\n'
    )


def main() -> None:
    """Check the data and the checkpoint, then hand over to MMEngine's runner."""
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    with clear_errors():
        config = read_config(args)
        checkpoint = check_start(config)
        prepare(config, splits=('train', 'val'))
        model = check_model(config, ('train', 'val'), checkpoint)
        if model is not None and checkpoint and config.get('resume'):
            check_mutual(model, checkpoint, config.load_from, args.config)
            check_resumed_scope(config, checkpoint, config.load_from)
        runner = build_runner(config)
    with clear_errors(only_own=True):
        runner.train()
    if config.get('resume') and checkpoint:
        print(finished(config, checkpoint), end='')


if __name__ == '__main__':
    main()
