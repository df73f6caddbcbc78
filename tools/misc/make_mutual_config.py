"""Make a config mutual: python tools/misc/make_mutual_config.py mmdet::FOLDER/NAME.py -o OUT."""

from __future__ import annotations

import argparse
import sys

from mmmutual.config import format_changes, load_config, make_mutual_with_plan, write_mutual
from mmmutual.config.mutual_config import SCALES, WIDTHS
from mmmutual.engine import clear_errors
from mmmutual.moved_names import RenamedOption
from mmmutual.slimming import format_share


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Make a config mutual')
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('--widths', nargs='+', type=float, default=WIDTHS, help='width multipliers to train')
    parser.add_argument('--scales', nargs='+', type=float, default=SCALES, help='input scales to train and evaluate')
    parser.add_argument('--scope', default='backbone', help="'backbone', as in the paper (default), or 'detector'")
    parser.add_argument('--slim', dest='scope', action=RenamedOption)
    parser.add_argument('--plan', action='store_true', help='also print a table of the slimmable parts and layers')
    parser.add_argument('-o', '--out', metavar='FILE.py', help='the mutual config; default: only print the changes')
    return parser.parse_args()


def main() -> None:
    """Print the changes and the slimmable share, and write the config."""
    args = parse_args()
    with clear_errors():
        stock = load_config(args.config)
        mutual, plan = make_mutual_with_plan(stock, args.widths, args.scales, args.scope)
        if args.out:
            write_mutual(args.config, stock, mutual, args.out)
    print(format_changes(stock, mutual, color=sys.stdout.isatty()))
    if args.plan:
        print(plan)
    print(format_share(plan))
    if args.out:
        print(f'config: {args.out}')


if __name__ == '__main__':
    main()
