"""Compare detectors that were made elastic: python benchmarks/elastic.py.

The project's tools train stock detectors on the drawn shapes, make them elastic, and evaluate their widths. Existing
results are kept, so that an interrupted run continues; --detectors, --seeds and --jobs can divide the work.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from subprocess import CalledProcessError

from mmdet.utils import register_all_modules
from tqdm import tqdm

from evidence.elastic_jobs import Job, jobs_of, relative_costs
from evidence.elastic_tables import Runs, format_tables, plot_compute
from evidence.trainings import DETECTORS
from mmmutual.datasets import draw_shapes
from mmmutual.engine import clear_errors
from mmmutual.slimming import SCOPES


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare elastic detectors on the drawn shapes')
    parser.add_argument('--detectors', nargs='+', choices=DETECTORS, default=DETECTORS, help='default: both')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='seeds; default: 0 1 2')
    parser.add_argument('--jobs', nargs='+', metavar='NAME', help='trainings to run; default: all')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/elastic'), help='folder for runs; default: work_dirs/elastic'
    )
    return parser.parse_args()


def main() -> None:
    """Run the missing trainings; then print the tables and draw the plots."""
    args = parse_args()
    register_all_modules()
    draw_shapes('data/shapes')
    for detector in args.detectors:
        costs, folder = {scope: relative_costs(detector, scope) for scope in SCOPES}, args.work_dir / detector
        jobs = jobs_of(costs['backbone'])
        unknown = set(args.jobs or ()) - set(jobs)
        if unknown:
            raise SystemExit(f'error: --jobs must be out of {list(jobs)}, but got {sorted(unknown)}')
        for seed in args.seeds:
            chosen = ['stock', *(name for name in args.jobs or jobs if name != 'stock')]
            for name in tqdm(chosen, desc=f'{detector}, seed {seed}'):
                run(jobs[name], name, detector, seed, folder)
        runs = collect(folder, jobs, args.seeds)
        compute = {name: jobs[name].cost(costs[jobs[name].scope]) for name in runs}
        (folder / 'runs.json').write_text(json.dumps(dict(seeds=args.seeds, compute=compute, runs=runs)) + '\n')
        print(format_tables(detector, runs, compute))
        print(f'\nplot: {plot_compute(runs, compute, folder / "compute.png")}')


def run(job: Job, name: str, detector: str, seed: int, folder: Path) -> None:
    """Run a training, unless it has results; if it fails, end the program with its last output."""
    path = folder / f'{name}_{seed}'
    if (path / 'rows.json').is_file():
        return
    tqdm.write(f'{name}, seed {seed}: {path}/log.txt')
    try:
        with clear_errors():
            job.run(detector, seed, path, folder / f'stock_{seed}')
    except CalledProcessError as error:
        end = '\n'.join((path / 'log.txt').read_text().splitlines()[-5:])
        raise SystemExit(f'{end}\nerror: {name}, seed {seed} failed; the same call continues') from error


def collect(folder: Path, jobs: dict[str, Job], seeds: list[int]) -> Runs:
    """The sub-networks of all trainings that every seed has."""
    files = {name: [folder / f'{name}_{seed}' / 'rows.json' for seed in seeds] for name in jobs}
    return {
        name: [json.loads(path.read_text()) for path in paths]
        for name, paths in files.items()
        if all(path.is_file() for path in paths)
    }


if __name__ == '__main__':
    main()
