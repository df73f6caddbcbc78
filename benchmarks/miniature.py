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
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
WHOLE = 'mutual_mask_rcnn_r18_shapes_whole.py'
METHODS: dict[str, tuple[str, list[str]]] = {  # config, and settings; the same neck in both
    'backbone': (WHOLE, ['model.slim=backbone', 'model.neck.slim_out=False']),
    'detector': (WHOLE, []),
}
METRICS = {'coco/bbox_mAP': 'box mAP', 'coco/segm_mAP': 'mask mAP'}
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
    results: dict[str, dict[str, Rows]] = {method: {} for method in args.methods}
    for seed in args.seeds:
        for method in args.methods:
            folder = args.work_dir / f'{method}_{seed}'
            if not (folder / 'rows.json').is_file():
                print(f'{method}, seed {seed}: training; log: {folder}/log.txt', flush=True)
                run_cell(method, seed, args.epochs, folder)
            results[method][str(seed)] = json.loads((folder / 'rows.json').read_text())
    (args.work_dir / 'results.json').write_text(json.dumps(results, indent=1))
    print(format_grid(results))
    print(format_fronts(results))
    print(f'plot: {plot(results, args.work_dir / "fronts.png")}')


def run_cell(method: str, seed: int, epochs: int, folder: Path) -> None:
    """Train and evaluate one cell; its ``rows.json`` appears when it is whole."""
    config, settings = METHODS[method]
    folder.mkdir(parents=True, exist_ok=True)
    settings = ['--cfg-options', *settings, f'randomness.seed={seed}', f'train_cfg.max_epochs={epochs}']
    settings += [f'train_cfg.val_interval={epochs + 1}', f'param_scheduler.1.end={epochs}']
    with (folder / 'log.txt').open('a') as log:
        common = [str(ROOT / 'configs' / config), '--work-dir', str(folder)]
        _run([str(ROOT / 'tools' / 'train.py'), *common, '--resume', *settings], log)
        checkpoint = (folder / 'last_checkpoint').read_text()
        _run([str(ROOT / 'tools' / 'test.py'), common[0], checkpoint, *common[1:], *settings], log)
    newest = max(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime)
    os.replace(newest, folder / 'rows.json')
    for path in folder.glob('epoch_*.pth'):
        if str(path) != checkpoint:
            path.unlink()


def _run(command: Sequence[str], log) -> None:
    subprocess.run([sys.executable, *command], check=True, stdout=log, stderr=subprocess.STDOUT, cwd=Path.cwd())


def mean_and_spread(results: Mapping[str, Rows], width: float, scale: float, metric: str) -> tuple[float, float]:
    """Mean over the seeds and half the range of a metric."""
    values = [
        row[metric] for rows in results.values() for row in rows if (row['width'], row['scale']) == (width, scale)
    ]
    return float(np.mean(values)), (max(values) - min(values)) / 2


def front(rows: Rows, metric: str, budgets: np.ndarray) -> np.ndarray:
    """The best value of a metric within each budget of multiply-adds; NaN where nothing fits."""
    best = np.full(len(budgets), np.nan)
    for row in rows:
        best = np.where(budgets >= row['multiply_adds'], np.fmax(best, row[metric]), best)
    return best


def format_grid(results: Mapping[str, Mapping[str, Rows]]) -> str:
    """Each sub-network's multiply-adds and metrics, mean over the seeds and half their range."""
    lines = ['', '| method | width | scale | M multiply-adds | box mAP | mask mAP |', '|---|---|---|---|---|---|']
    for method, seeds in results.items():
        for row in next(iter(seeds.values())):
            key = (row['width'], row['scale'])
            cells = ['{:.3f} ± {:.3f}'.format(*mean_and_spread(seeds, *key, metric)) for metric in METRICS]
            numbers = f'{key[0]:g} | {key[1]:g} | {row["multiply_adds"] / 1e6:.0f}'
            lines.append(f'| {method} | {numbers} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def format_fronts(results: Mapping[str, Mapping[str, Rows]]) -> str:
    """The best box and mask mAP within a few budgets."""
    budgets = _budgets(results, 9)
    lines = [
        '',
        f'| M multiply-adds | {" | ".join(f"{method}: {n}" for method in results for n in METRICS.values())} |',
    ]
    lines.append('|---' * (1 + len(results) * len(METRICS)) + '|')
    columns = [_fronts(seeds, metric, budgets) for seeds in results.values() for metric in METRICS]
    for index, budget in enumerate(budgets):
        cells = [
            f'{np.mean(c[:, index]):.3f} ± {np.ptp(c[:, index]) / 2:.3f}'.replace('nan ± nan', '-') for c in columns
        ]
        lines.append(f'| {budget / 1e6:.0f} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def plot(results: Mapping[str, Mapping[str, Rows]], path: Path) -> Path:
    """Fronts over multiply-adds, a line for each method with the range of its seeds."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    budgets = _budgets(results, 400)
    for axis, (metric, name) in zip(figure.subplots(1, 2), METRICS.items()):
        for method, seeds in results.items():
            values = _fronts(seeds, metric, budgets)
            (line,) = axis.plot(budgets / 1e6, values.mean(0), label=f'slim = {method!r}')
            axis.fill_between(budgets / 1e6, values.min(0), values.max(0), color=line.get_color(), alpha=0.2)
        axis.set(xlabel='multiply-adds (M), log scale', ylabel=f'{name}, best within the budget', xscale='log')
        axis.grid(alpha=0.3, which='both')
        axis.legend(loc='lower right')
    figure.suptitle(f'{len(next(iter(results.values())))} seeds: mean and range')
    figure.savefig(path, dpi=150)
    return path


def _fronts(seeds: Mapping[str, Rows], metric: str, budgets: np.ndarray) -> np.ndarray:
    return np.stack([front(rows, metric, budgets) for rows in seeds.values()])


def _budgets(results: Mapping[str, Mapping[str, Rows]], number: int) -> np.ndarray:
    costs = [row['multiply_adds'] for seeds in results.values() for rows in seeds.values() for row in rows]
    return np.geomspace(min(costs), max(costs), number)


if __name__ == '__main__':
    main()
