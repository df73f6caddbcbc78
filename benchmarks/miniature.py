"""Test the paper's claims in miniature, on drawn shapes, with several seeds: python benchmarks/miniature.py.

The project's tools train, and evaluate the grid of widths and scales. Existing results are kept, so that an interrupted
run continues, and --seeds or --methods can divide the work between processes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from subprocess import CalledProcessError

from tqdm import tqdm

from evidence.tables import Rows, best_of, format_fronts, format_leads, format_subnets, format_summary, metrics_in
from evidence.trainings import ABLATIONS, CLAIMS, DETECTORS, METHODS, QUARTER, SCOPES, SHAPES, TRAININGS
from mmmutual.datasets import draw_shapes
from mmmutual.engine import clear_errors
from mmmutual.evaluation.plotting import plot_fronts

GROUPS = dict(
    claims=CLAIMS,
    quarter=QUARTER,
    ablations={'MutualNet': CLAIMS['MutualNet'], **ABLATIONS},
    detector=SCOPES,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare methods on the drawn shapes')
    parser.add_argument('--group', choices=GROUPS, default='claims', help='comparison to run; default: claims')
    parser.add_argument('--methods', nargs='+', choices=METHODS, metavar='METHOD', help=', '.join(METHODS))
    parser.add_argument(
        '--detector', choices=DETECTORS, default=DETECTORS[0], help=f'detector to train; default: {DETECTORS[0]}'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='seeds; default: 0 1 2')
    parser.add_argument(
        '--epochs', type=int, default=3, help='epochs of a training, of mostly 300 iterations; default: 3'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/miniature'),
        help='folder for runs and results; default: work_dirs/miniature',
    )
    return parser.parse_args()


def main() -> None:
    """Run the missing trainings; then print the tables and draw the plot."""
    args = parse_args()
    chosen = args.methods or list(GROUPS[args.group])
    folder = args.work_dir / f'{args.detector}_{args.epochs}_epochs'
    draw_shapes('data/shapes_miniature', **SHAPES)
    for seed in args.seeds:
        for name in tqdm(dict.fromkeys(name for method in chosen for name in METHODS[method]), desc=f'seed {seed}'):
            path = folder / f'{name}_{seed}'
            if not (path / 'rows.json').is_file():
                tqdm.write(f'{name}, seed {seed}: {path}/log.txt')
                train(name, args.detector, seed, args.epochs, path)
    methods = {method: [collect(folder, METHODS[method], seed) for seed in args.seeds] for method in chosen}
    name = args.group if args.methods is None else 'chosen'
    (folder / f'{name}.json').write_text(json.dumps(dict(seeds=args.seeds, epochs=args.epochs, runs=methods)) + '\n')
    for metric in metrics_in(methods):
        print(f'\n{metric}, mean over the seeds ± half their range')
        for table in (format_summary, format_subnets, format_leads, format_fronts):
            print(f'\n{table(methods, metric)}')
        front = ', '.join(f'{width:g} at {scale:g}' for width, scale in best_of(methods[chosen[0]], metric))
        print(f'\n{chosen[0]}, the best {metric} within a budget is that of width {front}')
    print(f'plot: {plot_fronts(methods, folder / f"{name}.png")}')


def train(name: str, detector: str, seed: int, epochs: int, folder: Path) -> None:
    """Run a training of ``TRAININGS``; if it fails, end the program with its last output."""
    try:
        with clear_errors():
            TRAININGS[name].run(detector, seed, epochs, folder)
    except CalledProcessError as error:
        log = folder / 'log.txt'
        end = '\n'.join(log.read_text().splitlines()[-5:])
        raise SystemExit(
            f'{end}\nerror: {name}, seed {seed} failed, {log} has all output; the same call continues'
        ) from error


def collect(folder: Path, names: tuple[str, ...], seed: int) -> Rows:
    """The sub-networks of a method's trainings; an independent network has the width of its name."""
    rows = []
    for name in names:
        found = json.loads((folder / f'{name}_{seed}' / 'rows.json').read_text())
        width = TRAININGS[name].environment.get('WIDTH')
        rows += [{**row, 'width': float(width)} if width else row for row in found]
    return rows


if __name__ == '__main__':
    main()
