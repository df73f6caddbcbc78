"""Make a trained stock detector elastic: python tools/elastic.py CONFIG CHECKPOINT."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.runner import Runner

from mmmutual.checkpoint import (
    check_architecture,
    check_classes,
    check_new_run,
    continue_run,
    is_mutual,
    latest_checkpoint,
    narrow_widths,
    read_checkpoint,
    record_run,
)
from mmmutual.config import (
    config_name,
    format_changes,
    load_config,
    make_elastic,
    override,
    require,
    use_mixed_precision,
    use_scaled_learning_rate,
    without_initial_weights,
)
from mmmutual.engine import build_runner, check_model, clear_errors, epoch_length, is_first_process, prepare
from mmmutual.engine.run_options import parse_run_args
from mmmutual.evaluation import SubnetReportHook, stock_point
from mmmutual.slimming import SCOPES, check_order, format_share

STOCK = ('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'val_evaluator')
FIXED = ('load_from', 'resume', 'train_cfg.max_epochs', 'train_cfg.max_iters')  # set by other arguments
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
    parser.add_argument(
        '--work-dir',
        help='folder for all results, which all nodes of a distributed run must share; default: '
        'work_dirs/elastic_NAME_OF_CONFIG',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume', action='store_true', help='continue a run of the same command that was interrupted in any stage'
    )
    return parse_run_args(parser, 'settings of the elastic config, and of the model and the data of the stock config')


def read_config(args: argparse.Namespace) -> tuple[Config, dict]:
    """Make the elastic config from the command line, and print the changes; also return the stock checkpoint."""
    given = args.cfg_options or {}
    fixed = [name for name in FIXED if name in given]
    if fixed:
        raise ValueError(
            f'--cfg-options {fixed[0]}={given[fixed[0]]!r} is not allowed, since the training starts from CHECKPOINT '
            'and --epochs sets its length: omit it (--resume continues a run)'
        )
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
    if orders(elastic):
        try:
            check_order(plan)
        except ValueError as error:
            raise ValueError(f'{error}. --importance none keeps the order') from error
    if is_first_process():
        say(f'{format_changes(stock, elastic, color=sys.stdout.isatty())}\n{format_share(plan)}')
    override(elastic, {name: value for name, value in given.items() if name not in own})
    if args.amp:
        use_mixed_precision(elastic)
    if args.auto_scale_lr:
        use_scaled_learning_rate(elastic)
    name = f'elastic_{config_name(args.config)}'
    elastic.launcher = args.launcher
    elastic.work_dir = args.work_dir or given.get('work_dir') or f'./work_dirs/{name}'
    file = str(Path(elastic.work_dir) / f'{name}.py')
    return Config(elastic.to_dict(), cfg_text=elastic.text, filename=file), checkpoint


def start_run(config: Config, checkpoint: str) -> tuple[Config, None]:
    """Record a new run in its work dir; return what ``continue_run`` returns for an interrupted one."""
    check_new_run(config.work_dir)
    if is_first_process():
        record_run(config, checkpoint)
    return config, None


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
        run, finished = continue_run(config, args.checkpoint) if args.resume else start_run(config, args.checkpoint)
    with clear_errors(only_own=True):
        stage(2, 'evaluating the stock detector')
        stock = stock_point(config, args.checkpoint)
        stage(3, f'nothing is left to train: {run.load_from} is {finished}' if finished else training(run, args))
        runner = build_runner(run)
        if is_first_process():
            config.dump(config.filename)  # instead of that of the runner, which loads the checkpoint of a resumed run
        runner.register_hook(SubnetReportHook(stock))
        if not finished:
            train(runner, args.epochs)
        stage(4, 'evaluating the sub-networks')
        runner.test()
    stage(5, 'done')
    if is_first_process():
        say(results(config, Path(runner.log_dir)))


def orders(config: Config) -> bool:
    """Whether the training orders the channels."""
    return any(hook['type'] == 'ChannelOrderHook' for hook in config.custom_hooks)


def training(config: Config, args: argparse.Namespace) -> str:
    """A line that says what the training consists of."""
    tasks = ['ordering the channels'] if orders(config) and not config.resume else []
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
    inputs = [config.filename, checkpoint]
    query = ['python', 'tools/analysis_tools/query_table.py', *inputs]
    export = ['python', 'tools/model_converters/export_subnet.py', *inputs, '--width', f'{min(config.model.widths):g}']
    lines = [f'{name}: {file}' for name, file in files.items() if Path(file).is_file()]
    return '\n'.join(
        [
            *lines,
            'query table, with latencies:',
            f'  {shlex.join(query)}',
            'export of a sub-network:',
            f'  {shlex.join(export)}',
        ]
    )


def stage(number: int, text: str) -> None:
    """Announce a stage."""
    say(f'[{number}/{STAGES}] {text}')


def say(text: str) -> None:
    """Print in the first process."""
    if is_first_process():
        print(text, flush=True)


def number(text: str) -> float:
    """A number that ``make_elastic`` checks."""
    value = float(text)
    return int(value) if value.is_integer() and '.' not in text else value


if __name__ == '__main__':
    main()
