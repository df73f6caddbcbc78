"""Check that one config of each folder of mmdet can be made mutual: python tools/misc/check_mmdet_configs.py."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from mmdet.utils import register_all_modules

from mmmutual.moved_names import RenamedOption
from mmmutual.slimming import SCOPES
from mmmutual.testing.config_survey import families, outcome, write_table


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Check that mmdet's detectors can be made mutual, one config of each folder"
    )
    parser.add_argument(
        'families',
        nargs='*',
        help='folders in mmdet/.mim/configs to check again; default: all folders without a result',
    )
    parser.add_argument('--scope', choices=SCOPES, default='backbone', help="'backbone' (default) or 'detector'")
    parser.add_argument('--slim', dest='scope', choices=SCOPES, action=RenamedOption)
    parser.add_argument('-o', '--out', help='the table; default: docs/supported_configs[_detector].md')
    parser.add_argument(
        '--results', help='earlier results, which are kept; default: work_dirs/supported_configs_SCOPE.json'
    )
    return parser.parse_args()


def main() -> None:
    """Check, save the results after each config, and write the table."""
    args = parse_args()
    register_all_modules()
    torch.set_num_threads(1)  # the processes are forked
    path = Path(args.results or f'work_dirs/supported_configs_{args.scope}.json')
    out = args.out or f'docs/supported_configs{"_detector" * (args.scope == "detector")}.md'
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.is_file() else {}
    for family, name in families().items():
        if family not in args.families if args.families else family in results:
            continue
        start = time.time()
        result = outcome(name, args.scope)
        results[family] = dict(config=name, **result._asdict(), seconds=round(time.time() - start))
        print(f'{family}: {name}: {result.reason or "passes"}', flush=True)
        path.write_text(json.dumps(results, indent=1))
    write_table(results, out, args.scope)
    print(f'table: {out}')


if __name__ == '__main__':
    main()
