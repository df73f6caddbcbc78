"""Evaluate a detector's sub-networks: python tools/test.py configs/mutual_mask_rcnn_r50.py CHECKPOINT."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from mmmutual.checkpoint import check_architecture, check_mutual, read_checkpoint, warn_of_other_classes
from mmmutual.config import build_model, config_name, load_config, require
from mmmutual.engine import build_runner, check_model, clear_errors, prepare
from mmmutual.engine.norm_check import check_statistics
from mmmutual.engine.run_options import parse_run_args
from mmmutual.layers import evaluated_widths


def parse_args() -> argparse.Namespace:
    """Read the command line: the options of mmdet's tools/test.py, and widths and scales."""
    parser = argparse.ArgumentParser(description="Evaluate a detector's sub-networks")
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--widths', nargs='+', type=float, help='width multipliers; default: those in the config')
    parser.add_argument('--scales', nargs='+', type=float, help='input scales; default: those in the config')
    parser.add_argument(
        '--decoder-layers', nargs='+', type=int, help='decoder layers of DETR-like detectors; default: as in the config'
    )
    parser.add_argument('--work-dir', help='folder for logs, table and plot; default: work_dirs/NAME_OF_CONFIG')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions of each sub-network to this file')
    parser.add_argument('--show-dir', help="folder for pictures of the widest network's predictions")
    return parse_run_args(parser)


def read_config(args: argparse.Namespace) -> Config:
    """The config with the command line's settings in it."""
    config = load_config(args.config, args.cfg_options)
    require(config, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get('work_dir') or f'./work_dirs/{config_name(args.config)}'
    config.load_from = args.checkpoint
    for name in ('widths', 'scales', 'decoder_layers'):
        values = getattr(args, name)
        if values is not None:
            if config.test_cfg.get('type') != 'SubnetTestLoop':
                check_mutual(build_model(config), read_checkpoint(args.checkpoint), args.checkpoint, args.config)
                raise ValueError(
                    f"--{name.replace('_', '-')} needs test_cfg=dict(type='SubnetTestLoop', ...), but "
                    f'{args.config} has '
                    f'{config.test_cfg.get("type", "TestLoop")}'
                )
            config.test_cfg[name] = tuple(values)
    detects = config.get('default_scope') != 'mmpretrain'
    if args.show_dir:
        folder = str(Path(args.show_dir).absolute())
        drawing = dict(draw=True, test_out_dir=folder) if detects else dict(enable=True, out_dir=folder)
        config.default_hooks.visualization.update(drawing)
    if args.out:
        evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
        if any(evaluator.get('type') == 'MultiDatasetsEvaluator' for evaluator in evaluators):
            raise ValueError(
                f'--out writes the predictions of one data set, but test_evaluator of {args.config} is a '
                'MultiDatasetsEvaluator: set test_dataloader and test_evaluator to one of the data sets'
            )
        dump = 'DumpDetResults' if detects else 'DumpResults'
        config.test_evaluator = [*evaluators, dict(type=dump, out_file_path=args.out)]
    return config


def main() -> None:
    """Check the data and the checkpoint, then hand over to MMEngine's runner."""
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    with clear_errors():
        config = read_config(args)
        checkpoint = read_checkpoint(args.checkpoint)
        prepare(config, splits=('test',))
        model = check_model(config, splits=('test',))
        if model is not None:
            check_architecture(model, checkpoint, args.checkpoint)
            warn_if_stock(config, model, checkpoint, args)
            warn_of_other_classes(config, checkpoint, args.checkpoint)
            if config.test_cfg.get('type') == 'SubnetTestLoop' and not config.test_cfg.get('calibration_batches'):
                model.load_state_dict(checkpoint['state_dict'], strict=False)
                widths = evaluated_widths(model, config.test_cfg.get('widths'), config.test_cfg.get('num_widths'))
                check_statistics(model, widths)
        runner = build_runner(config)
    with clear_errors(only_own=True):
        runner.test()


def warn_if_stock(config: Config, model: nn.Module, checkpoint: dict, args: argparse.Namespace) -> None:
    """Name the config that evaluates all widths. The stock config evaluates the widest network only."""
    try:
        check_mutual(model, checkpoint, args.checkpoint, args.config)
    except ValueError as error:
        if config.test_cfg.get('type') == 'SubnetTestLoop':
            raise
        print_log(f'{error}. Now width 1.0 is evaluated', logger='current', level=logging.WARNING)


if __name__ == '__main__':
    main()
