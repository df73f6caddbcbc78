"""Plot Pareto fronts of evaluations: python tools/analysis_tools/compare_fronts.py NAME=PATH ... -o FILE.png."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmmutual.engine import clear_errors
from mmmutual.evaluation.plotting import plot_fronts

HELP = 'a name for the legend, and a subnets.json of tools/test.py or a folder with one (the newest is read)'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Plot the Pareto fronts of several checkpoints')
    parser.add_argument('runs', nargs='+', metavar='NAME=PATH', help=f'{HELP}; runs with the same name are averaged')
    parser.add_argument('-o', '--out', default='fronts.png', metavar='FILE.png', help='the plot; default: fronts.png')
    return parser.parse_args()


def read_run(text: str) -> tuple[str, list[dict]]:
    """Name and rows of a run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the text names no run.
    """
    name, _, place = text.partition('=')
    if not place:
        example = 'backbone=work_dirs/one/subnets.json'
        raise ValueError(f'each run must be NAME=PATH, for example {example}, but got {text!r}')
    path = Path(place)
    if path.is_dir():
        found = sorted(path.rglob('subnets.json'), key=lambda file: file.stat().st_mtime)
        path = found[-1] if found else path / 'subnets.json'
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}: tools/test.py writes it into its work dir')
    return name, json.loads(path.read_text())


def main() -> None:
    """Read the runs and draw the plot."""
    args = parse_args()
    methods: dict[str, list] = {}
    with clear_errors():
        for name, rows in map(read_run, args.runs):
            methods.setdefault(name, []).append(rows)
        print(f'plot: {plot_fronts(methods, args.out)}')


if __name__ == '__main__':
    main()
