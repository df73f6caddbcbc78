"""Write the query table of a checkpoint: python tools/analysis_tools/query_table.py CONFIG CHECKPOINT."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmmutual.config import config_name, load_config
from mmmutual.engine import clear_errors
from mmmutual.evaluation import QueryTable, fill_query_table, format_table
from mmmutual.evaluation.query_report import write_query_report
from mmmutual.moved_names import RenamedOption
from mmmutual.number_checks import check_positive

NAMES = {'multiply_adds': 'multiply-adds', 'latency_ms': 'ms'}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Measure accuracy and cost of a grid of sub-networks; find the best one within a budget'
    )
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--widths', nargs='+', type=float, help='width multipliers; default: as test_cfg')
    parser.add_argument('--scales', nargs='+', type=float, help='input scales; default: the scales of test_cfg, or 1.0')
    parser.add_argument(
        '--decoder-layers',
        nargs='+',
        type=int,
        help='decoder layers of DETRs; default: as test_cfg, or all',
    )
    parser.add_argument(
        '--budget-multiply-adds', type=float, help='print the best sub-network within these multiply-adds'
    )
    parser.add_argument('--budget-flops', type=float, dest='budget_multiply_adds', action=RenamedOption)
    parser.add_argument('--budget-ms', type=float, help='print the best sub-network within this median latency')
    parser.add_argument(
        '--metric', help="the metric to maximise; default: 'mask mAP' if the model has masks, else 'box mAP'"
    )
    parser.add_argument('--repeats', type=int, default=30, help='timed runs of each sub-network; default: 30')
    parser.add_argument(
        '--remeasure',
        action='store_true',
        help='measure the latency again and keep the rest, for example on another device',
    )
    parser.add_argument('--force', action='store_true', help='discard the existing table and start again')
    parser.add_argument('-o', '--out', help='the table; default: work_dirs/NAME_OF_CONFIG/query_table/table.json')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser.parse_args()


def show(table: QueryTable, metric: str | None) -> str:
    """The table for the terminal; a column names the Pareto fronts of each sub-network."""
    fronts = {NAMES[cost]: table.front(cost, metric) for cost in table.costs}
    rows = [
        {**row, 'front': ' and '.join(name for name, front in fronts.items() if subnet in front)}
        for row, subnet in zip(table.rows(), table.subnets)
    ]
    return format_table(rows)


def main() -> None:
    """Fill the table, write the report, answer the budget."""
    args = parse_args()
    with clear_errors():
        for name in ('budget_multiply_adds', 'budget_ms'):
            if getattr(args, name) is not None:  # a wrong one must not cost an evaluation
                check_positive(getattr(args, name), f'--{name.replace("_", "-")}')
        config = load_config(args.config, args.cfg_options)
        config.work_dir = config.get('work_dir') or f'./work_dirs/{config_name(args.config)}'
        path = Path(args.out or Path(config.work_dir) / 'query_table' / 'table.json')
        table = fill_query_table(
            config,
            args.checkpoint,
            path,
            args.widths,
            args.scales,
            args.repeats,
            args.force,
            args.remeasure,
            args.decoder_layers,
        )
        print(show(table, args.metric))
        context = table.context
        print(f'ms on {context["device"]}, threads: {context["threads"]}, batch size: {context["batch_size"]}')
        print('\n'.join(f'written: {file}' for file in (path, *write_query_report(table, path))))
        if args.budget_multiply_adds is not None or args.budget_ms is not None:
            print(f'best within the budget: {table.best(args.budget_multiply_adds, args.budget_ms, args.metric)}')


if __name__ == '__main__':
    main()
