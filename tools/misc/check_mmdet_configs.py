"""Check that one config of each folder of mmdet can be made mutual: python tools/misc/check_mmdet_configs.py."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from mmmutual.environment import find_mmpretrain, installed_versions
from mmmutual.moved_names import RenamedOption
from mmmutual.slimming import SCOPES
from mmmutual.testing import Candidate, families, format_page, outcome

OPTIONAL = ('mmpretrain', 'onedl-mmpretrain', 'timm', 'transformers', 'detectron2')


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
    parser.add_argument('--all', action='store_true', help='check all folders again')
    parser.add_argument('--scope', choices=SCOPES, help="'backbone' or 'detector'; default: both")
    parser.add_argument('--slim', dest='scope', choices=SCOPES, action=RenamedOption)
    parser.add_argument('--jobs', type=int, default=1, help='configs that are checked at a time (1)')
    parser.add_argument(
        '--results', default='benchmarks/results/survey/mmdet_configs.json', help='the results; earlier ones stay'
    )
    parser.add_argument('-o', '--out', default='docs/supported_configs.md', help='the page')
    return parser.parse_args()


def check(candidate: Candidate, scope: str) -> dict:
    """Check a config in a scope; the outcome, and the seconds that it took."""
    start = time.time()
    found = outcome(candidate.config, scope)
    return dict(found._asdict(), seconds=round(time.time() - start))


def versions() -> dict[str, str]:
    """The versions of the installed packages that the results depend on."""
    found = installed_versions()
    for name in OPTIONAL:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def save(results: Mapping, args: argparse.Namespace) -> None:
    """Write the results, and the page if each folder has a result in each scope."""
    path = Path(args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + '\n')
    if all(len(row['scopes']) == len(SCOPES) for row in results['folders'].values()):
        Path(args.out).write_text(format_page(results))


def main() -> None:
    """Check, save the results after each config, and write the page."""
    args = parse_args()
    with suppress(ImportError):
        find_mmpretrain()
    torch.set_num_threads(1)  # the processes are forked
    path = Path(args.results)
    results = json.loads(path.read_text()) if path.is_file() and not args.all else {'folders': {}}
    results['versions'] = versions()
    scopes = [args.scope] if args.scope else SCOPES
    with ThreadPoolExecutor(args.jobs) as pool:
        running = {}
        for folder, candidate in families().items():
            row = results['folders'].setdefault(folder, {'scopes': {}})
            row.update(candidate._asdict())
            for scope in scopes:
                if folder in args.families or not (args.families or scope in row['scopes']):
                    running[pool.submit(check, candidate, scope)] = row, scope
        for done in as_completed(running):
            row, scope = running[done]
            row['scopes'][scope] = done.result()
            print(f'{row["config"]}, scope {scope}: {row["scopes"][scope]["reason"] or "passes"}', flush=True)
            save(results, args)
    save(results, args)


if __name__ == '__main__':
    main()
