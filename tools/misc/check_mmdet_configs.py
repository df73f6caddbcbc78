"""Check one config of each family in mmdet: python tools/misc/check_mmdet_configs.py -o docs/supported_configs.md."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from mmdet.utils import register_all_modules

from mmmutual.apis.config_check import families, outcome, write_table


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Check that mmdet's detectors can be made mutual, a family at a time")
    parser.add_argument(
        'families', nargs='*', help='folders in mmdet/.mim/configs to check again; default: those without a result'
    )
    parser.add_argument('-o', '--out', default='docs/supported_configs.md', help='where the table goes')
    parser.add_argument('--results', default='work_dirs/supported_configs.json', help='results so far')
    return parser.parse_args()


def main() -> None:
    """Check, save the results after each config, and write the table."""
    args = parse_args()
    register_all_modules()
    torch.set_num_threads(1)  # the processes are forked
    path = Path(args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.is_file() else {}
    for family, name in families().items():
        if family not in args.families if args.families else family in results:
            continue
        start = time.time()
        reason = outcome(name)
        results[family] = dict(config=name, reason=reason, seconds=round(time.time() - start))
        print(f'{family}: {name}: {reason or "passes"}', flush=True)
        path.write_text(json.dumps(results, indent=1))
    write_table(results, args.out)
    print(f'table: {args.out}')


if __name__ == '__main__':
    main()
