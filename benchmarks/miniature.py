"""Compare methods on the drawn shapes, several seeds each: python benchmarks/miniature.py.

Each cell (a method and a seed) is trained and evaluated on the width x scale grid by the project's own tools. Cells
that are there already are kept, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmmutual.analysis import budgets_of, fronts, plot_fronts

ROOT = Path(__file__).parents[1]
WHOLE = 'mutual_mask_rcnn_r18_shapes_whole.py'
METHODS: dict[str, tuple[str, list[str]]] = {  # config, and settings; the same neck in both
    'backbone': (WHOLE, ['model.slim=backbone', 'model.neck.slim_out=False']),
    'detector': (WHOLE, []),
}
METRICS = ('box mAP', 'mask mAP')
Rows = list[dict[str, float]]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare methods on the drawn shapes')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS), help='default: all')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument('--epochs', type=int, default=3, help='default: 3')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/miniature'), help='where runs and results go')
    return parser.parse_args()


def main() -> None:
    """Train and evaluate what is missing; then print the table and draw the plot."""
    args = parse_args()
    methods: dict[str, list[Rows]] = {method: [] for method in args.methods}
    for seed in args.seeds:
        for method in args.methods:
            folder = args.work_dir / f'{method}_{seed}'
            if not (folder / 'rows.json').is_file():
                print(f'{method}, seed {seed}: training; log: {folder}/log.txt', flush=True)
                run_cell(method, seed, args.epochs, folder)
            methods[method].append(json.loads((folder / 'rows.json').read_text()))
    (args.work_dir / 'results.json').write_text(json.dumps(dict(seeds=args.seeds, epochs=args.epochs, runs=methods)))
    print(format_grid(methods))
    print(format_fronts(methods))
    print(f'plot: {plot_fronts(methods, args.work_dir / "fronts.png")}')


def run_cell(method: str, seed: int, epochs: int, folder: Path) -> None:
    """Train and evaluate one cell; its ``rows.json`` appears when it is whole."""
    config, settings = METHODS[method]
    folder.mkdir(parents=True, exist_ok=True)
    settings = ['--cfg-options', *settings, f'randomness.seed={seed}', f'train_cfg.max_epochs={epochs}']
    settings += [f'train_cfg.val_interval={epochs + 1}', f'param_scheduler.1.end={epochs}']
    with (folder / 'log.txt').open('a') as log:
        common = [str(ROOT / 'configs' / config), '--work-dir', str(folder)]
        _run([str(ROOT / 'tools' / 'train.py'), *common, '--resume', *settings], log)
        checkpoint = Path((folder / 'last_checkpoint').read_text())
        _run([str(ROOT / 'tools' / 'test.py'), common[0], str(checkpoint), *common[1:], *settings], log)
    newest = max(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime)
    os.replace(newest, folder / 'rows.json')
    for path in folder.glob('epoch_*.pth'):
        if path.name != checkpoint.name:
            path.unlink()


def _run(command: Sequence[str], log) -> None:
    subprocess.run([sys.executable, *command], check=True, stdout=log, stderr=subprocess.STDOUT, cwd=Path.cwd())


def format_grid(methods: Mapping[str, Sequence[Rows]]) -> str:
    """Each sub-network's multiply-adds and metrics, mean over the seeds and half their range."""
    lines = ['', f'| method | width | scale | M multiply-adds | {" | ".join(METRICS)} |', '|---' * 6 + '|']
    for method, runs in methods.items():
        for subnets in zip(*runs, strict=True):
            row = subnets[0]
            cells = [_cell(np.array([subnet.get(metric, np.nan) for subnet in subnets])) for metric in METRICS]
            cost = f'{row["width"]:g} | {row["scale"]:g} | {row["multiply_adds"] / 1e6:.0f}'
            lines.append(f'| {method} | {cost} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def format_fronts(methods: Mapping[str, Sequence[Rows]]) -> str:
    """The best box and mask mAP within a few budgets, mean over the seeds and half their range."""
    budgets = budgets_of(methods, 9)
    titles = [f'{method}: {metric}' for method in methods for metric in METRICS]
    lines = ['', f'| M multiply-adds | {" | ".join(titles)} |', '|---' * (1 + len(titles)) + '|']
    columns = [fronts(runs, metric, budgets) for runs in methods.values() for metric in METRICS]
    for index, budget in enumerate(budgets):
        cells = [_cell(column[:, index]) for column in columns]
        lines.append(f'| {budget / 1e6:.0f} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _cell(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return '-'
    return f'{values.mean():.3f} ± {np.ptp(values) / 2:.3f}'


if __name__ == '__main__':
    main()
