"""Make a trained stock detector elastic: python tools/elastic.py CONFIG CHECKPOINT."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.runner import Runner

from mmmutual.checkpoint import (
    check_architecture,
    check_classes,
    finished_length,
    is_mutual,
    latest_checkpoint,
    narrow_widths,
    read_checkpoint,
)
from mmmutual.config import (
    config_name,
    format_changes,
    load_config,
    make_elastic,
    override,
    require,
    use_mixed_precision,
    without_initial_weights,
)
from mmmutual.engine import build_runner, check_model, clear_errors, epoch_length, prepare
from mmmutual.engine.run_options import parse_run_args
from mmmutual.evaluation import SubnetReportHook, stock_point
from mmmutual.slimming import SCOPES, format_share

STOCK = ('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'val_evaluator')
RESUMED = ('model', 'train_cfg', 'param_scheduler')  # settings that a resumed run cannot change
STAGES = 5
HELP = """
Order the channels of a trained stock detector by importance, fine-tune it mutually for a short time, calibrate it, and
evaluate its sub-networks on the validation data. The result is a mutual config and a checkpoint for all other tools.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=HELP)
    parser.add_argument('config', help='stock config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file of the trained stock detector')
    parser.add_argument(
        '--epochs',
        type=number,
        default=1,
        help='epochs to fine-tune; 0 only orders and calibrates, which takes minutes; default: 1',
    )
    parser.add_argument('--widths', nargs='+', type=float, help='width multipliers to train; default: 1.0 to 0.25')
    parser.add_argument(
        '--scales', nargs='+', type=float, help='input scales to train and evaluate; default: 1.0 to 0.4'
    )
    parser.add_argument(
        '--scope', choices=SCOPES, default='backbone', help="the part that becomes slimmable; default: 'backbone'"
    )
    parser.add_argument(
        '--importance', help="the importance that orders channels, or 'none' to keep their order; default: norm_scale"
    )
    parser.add_argument('--work-dir', help='folder for all results; default: work_dirs/elastic_NAME_OF_CONFIG')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--resume', action='store_true', help='continue a run of the same command that was interrupted in any stage'
    )
    return parse_run_args(parser, 'settings of the elastic config, and of the model and the data of the stock config')


def read_config(args: argparse.Namespace) -> tuple[Config, dict]:
    """Make the elastic config from the command line, and print the changes; also return the stock checkpoint."""
    given = args.cfg_options or {}
    own = {name: value for name, value in given.items() if name.split('.')[0] in STOCK}
    stock = load_config(args.config, own)
    require(stock, 'model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'optim_wrapper')
    checkpoint = read_checkpoint(args.checkpoint)
    check_classes(stock, checkpoint, args.checkpoint)
    prepare(without_initial_weights(stock), splits=('train', 'val'))
    options: dict[str, Any] = {name: getattr(args, name) for name in ('widths', 'scales', 'importance')}
    options = {name: None if value == 'none' else value for name, value in options.items() if value is not None}
    if is_mutual(checkpoint):
        trained = ', '.join(f'{width:g}' for width in narrow_widths(checkpoint))
        say(
            f'{args.checkpoint} is slimmable already{f" (widths {trained})" if trained else ""}: its channels keep '
            'their order, and the training continues from it'
        )
        options['importance'] = None
    elastic, plan = make_elastic(
        stock,
        args.checkpoint,
        epoch_length(stock, args.launcher),
        args.epochs,
        scope=args.scope,
        **options,
    )
    say(f'{format_changes(stock, elastic, color=sys.stdout.isatty())}\n{format_share(plan)}')
    override(elastic, {name: value for name, value in given.items() if name not in own})
    if args.amp:
        use_mixed_precision(elastic)
    name = f'elastic_{config_name(args.config)}'
    elastic.launcher = args.launcher
    elastic.work_dir = args.work_dir or f'./work_dirs/{name}'
    file = str(Path(elastic.work_dir) / f'{name}.py')
    return Config(elastic.to_dict(), cfg_text=elastic.text, filename=file), checkpoint


def check_resumed(config: Config) -> dict:
    """Let the config continue the run in its work dir.

    Args:
        config: The elastic config, which is changed.

    Returns:
        The checkpoint to continue from; empty if the run was interrupted before it wrote one.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run had other settings.
    """
    if not Path(config.filename).is_file():
        raise FileNotFoundError(
            f'--resume continues a run of this command, but there is none in {config.work_dir}: it has no '
            f'{Path(config.filename).name}. Omit --resume, or pass the --work-dir of the run'
        )
    before = load_config(config.filename)
    other = [name for name in RESUMED if before.get(name) != config.get(name)]
    if other:
        raise ValueError(
            f'--resume continues a run of the same command, but that in {config.work_dir} had other settings in '
            f'{", ".join(other)}: repeat its command, or choose another --work-dir'
        )
    latest = latest_checkpoint(config.work_dir)
    if latest is None:
        return {}
    checkpoint = read_checkpoint(latest)
    config.load_from = latest
    config.resume = finished_length(config.train_cfg, checkpoint) is None
    return checkpoint


def train(runner: Runner, epochs: int) -> None:
    """Train and calibrate; without an epoch only order and calibrate, and write the checkpoint that an epoch writes."""
    runner.train()
    if epochs:
        return
    meta = dict(epoch=0, iter=0)
    runner.save_checkpoint(
        runner.work_dir, 'epoch_0.pth', save_param_scheduler=False, meta=meta, backend_args=dict(backend='atomic')
    )
    if runner.rank == 0:
        folder = Path(runner.work_dir)
        (folder / 'last_checkpoint').write_text(str(folder / 'epoch_0.pth'))


def main() -> None:
    """Check the input, measure the stock detector, train, evaluate, and print the next commands."""
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    with clear_errors():
        stage(1, f'reading {args.config} and {args.checkpoint}')
        config, checkpoint = read_config(args)
        prepare(config, splits=('train', 'val', 'test'))
        model = check_model(config, ('train', 'val', 'test'), checkpoint)
        if model is not None:
            check_architecture(model, checkpoint, args.checkpoint)
        resumed = check_resumed(config) if args.resume else {}
        finished = finished_length(config.train_cfg, resumed) if resumed else None
        if int(os.environ.get('RANK', 0)) == 0 and not args.resume:
            Path(config.work_dir).mkdir(parents=True, exist_ok=True)
            config.dump(config.filename)
    with clear_errors(only_own=True):
        stage(2, 'evaluating the stock detector')
        stock = stock_point(config, args.checkpoint)
        stage(3, f'nothing is left to train: {config.load_from} is {finished}' if finished else training(config, args))
        runner = build_runner(config)
        runner.register_hook(SubnetReportHook(stock))
        if not finished:
            train(runner, args.epochs)
        stage(4, 'evaluating the sub-networks')
        runner.test()
    stage(5, 'done')
    say(results(config, Path(runner.log_dir)))


def training(config: Config, args: argparse.Namespace) -> str:
    """A line that says what the training consists of."""
    orders = any(hook['type'] == 'ChannelOrderHook' for hook in config.custom_hooks)
    tasks = ['ordering the channels'] if orders and not config.resume else []
    loop = next(name for name in ('max_epochs', 'max_iters') if name in config.train_cfg)
    if args.epochs:
        tasks.append(f'training ({loop}={config.train_cfg[loop]}, lr={config.optim_wrapper.optimizer.lr:g})')
    return ', '.join([*tasks, 'calibrating']) + (f', from {config.load_from}' if config.resume else '')


def results(config: Config, folder: Path) -> str:
    """The files of a finished run, and the next commands."""
    checkpoint = latest_checkpoint(config.work_dir)
    files = dict(
        config=config.filename, checkpoint=checkpoint, table=folder / 'subnets.json', plot=folder / 'subnets.png'
    )
    inputs = f'{config.filename} {checkpoint}'
    lines = [f'{name}: {file}' for name, file in files.items() if Path(file).is_file()]
    return '\n'.join(
        [
            *lines,
            'query table, with latencies:',
            f'  python tools/analysis_tools/query_table.py {inputs}',
            'export of a sub-network:',
            f'  python tools/model_converters/export_subnet.py {inputs} --width 0.5',
        ]
    )


def stage(number: int, text: str) -> None:
    """Announce a stage."""
    say(f'[{number}/{STAGES}] {text}')


def say(text: str) -> None:
    """Print in the first process."""
    if int(os.environ.get('RANK', 0)) == 0:
        print(text, flush=True)


def number(text: str) -> float:
    """A number that ``make_elastic`` checks."""
    value = float(text)
    return int(value) if value.is_integer() and '.' not in text else value


if __name__ == '__main__':
    main()
