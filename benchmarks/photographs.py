"""Compare trainings on photographs: python benchmarks/photographs.py --data FOLDER.

The project's tools train and evaluate. Existing results are kept, so that an interrupted run continues. Two calls at
the same time share the trainings. At the end the tables of all results are printed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from subprocess import CalledProcessError

from mmdet.utils import register_all_modules
from tqdm import tqdm

from evidence.photograph_jobs import EPOCHS, Job, jobs_of, relative_costs
from evidence.photograph_tables import EQUAL_STEPS, format_tables, select
from mmmutual.engine import clear_errors
from mmmutual.evaluation.plotting import plot_fronts
from mmmutual.slimming import SCOPES


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare trainings on photographs of nuclei and of blood cells')
    parser.add_argument('--data', type=Path, required=True, help='folder with the folders bccd and nuclei')
    parser.add_argument('--data-sets', nargs='+', choices=EPOCHS, default=[*EPOCHS], help='default: both')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='seeds; default: 0 1 2')
    parser.add_argument('--jobs', nargs='+', metavar='NAME', help='trainings to run; default: all')
    parser.add_argument('--no-training', action='store_true', help='only print the tables of the results that exist')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/photographs'), help='default: work_dirs/photographs'
    )
    return parser.parse_args()


def main() -> None:
    """Run the missing trainings; then print the tables and draw the plots."""
    args = parse_args()
    register_all_modules()
    costs = {name: {scope: relative_costs(args.data, name, scope) for scope in SCOPES} for name in args.data_sets}
    jobs = {name: jobs_of(name, costs[name]['backbone']) for name in args.data_sets}
    known = [name for each in jobs.values() for name in each]
    if unknown := set(args.jobs or ()) - set(known):
        raise SystemExit(f'error: --jobs must be out of {list(dict.fromkeys(known))}, but got {sorted(unknown)}')
    for seed in [] if args.no_training else args.seeds:
        for data_set in args.data_sets:
            for name in tqdm(args.jobs or jobs[data_set], desc=f'{data_set}, seed {seed}'):
                run(jobs[data_set][name], name, args.data, data_set, seed, args.work_dir / data_set)
    for data_set in args.data_sets:
        folder = args.work_dir / data_set
        if not (runs := collect(folder, jobs[data_set])):
            print(f'\n{folder} has no results yet')
            continue
        compute = {name: round(job.cost(costs[data_set][job.scope]), 2) for name, job in jobs[data_set].items()}
        settings = {name: asdict(job) for name, job in jobs[data_set].items()}
        kept = dict(settings=settings, compute=compute, runs=runs)
        (args.work_dir / f'{data_set}.json').write_text(json.dumps(kept) + '\n')
        print(f'\n## {data_set}\n\n{format_tables(runs, compute)}')
        if methods := select(runs, EQUAL_STEPS, 'rows'):
            print(f'\nplot: {plot_fronts(methods, args.work_dir / f"{data_set}.png")}')


def run(job: Job, name: str, data: Path, data_set: str, seed: int, folder: Path) -> None:
    """Run a training, unless it has results or another process runs it; if it fails, end with its last output."""
    path = folder / f'{slug(name)}_{seed}'
    with claimed(folder / f'{path.name}.lock') as free:
        if not free or (path / 'result.json').is_file():
            return
        tqdm.write(f'{name}, seed {seed}: {path}/log.txt')
        try:
            with clear_errors():
                job.run(data.absolute(), data_set, seed, path, folder / f'{slug("independent 1")}_{seed}')
        except CalledProcessError as error:
            end = '\n'.join((path / 'log.txt').read_text().splitlines()[-5:])
            raise SystemExit(f'{end}\nerror: {name}, seed {seed} failed; the same call continues') from error


def collect(folder: Path, jobs: dict[str, Job]) -> dict[str, dict[str, dict]]:
    """The results by training and seed."""
    names = {slug(name): name for name in jobs}
    found: dict[str, dict[str, dict]] = {name: {} for name in jobs}
    for path in sorted(folder.glob('*/result.json')):
        training, _, seed = path.parent.name.rpartition('_')
        if training in names:
            found[names[training]][seed] = json.loads(path.read_text())
    return {name: results for name, results in found.items() if results}


def slug(name: str) -> str:
    """The name of a training in a path: options of the tools cannot have spaces."""
    return name.replace(',', '').replace(' ', '_')


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a file while the block runs; False if another process has locked it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == '__main__':
    main()
