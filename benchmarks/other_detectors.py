"""Train detectors of other families on the drawn shapes: python benchmarks/other_detectors.py.

The project's tools make the stock configs mutual in scope `detector`, train them and evaluate their widths. Existing
results are kept, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CalledProcessError

from evidence.tables import head, line
from evidence.trainings import ROOT, WIDTHS, call
from mmmutual.datasets import draw_shapes
from mmmutual.engine import clear_errors

CONFIGS = {
    'Mask R-CNN, Swin': 'swin',
    'RTMDet-tiny': 'rtmdet_tiny',
    'Deformable DETR': 'deformable_detr',
}
GRID = ('--widths', *map(str, WIDTHS), '--scales', '1.0', '0.75', '0.5')
Found = Mapping[str, Mapping]  # the losses and the sub-networks of each detector


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train detectors of other families on the drawn shapes')
    names = CONFIGS.values()
    parser.add_argument('--configs', nargs='+', choices=names, default=[*names], help=f'default: {" ".join(names)}')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/other_detectors'),
        help='folder for runs and results; default: work_dirs/other_detectors',
    )
    return parser.parse_args()


def main() -> None:
    """Run the missing trainings; then print the tables."""
    args = parse_args()
    draw_shapes('data/shapes')
    for name in args.configs:
        folder = args.work_dir / name
        if not (folder / 'rows.json').is_file():
            print(f'{name}: {folder}/log.txt', flush=True)
            run(name, folder)
    found = {
        detector: collect(args.work_dir / name)
        for detector, name in CONFIGS.items()
        if (args.work_dir / name / 'rows.json').is_file()
    }
    (args.work_dir / 'results.json').write_text(json.dumps(found, indent=1) + '\n')
    print(format_tables(found))


def run(name: str, folder: Path) -> None:
    """Train and evaluate at scale 1.0; ``rows.json`` in the folder appears at the end; an interrupted run continues."""
    folder.mkdir(parents=True, exist_ok=True)
    config, common = str(ROOT / f'benchmarks/evidence/{name}.py'), ('--work-dir', str(folder))
    try:
        with clear_errors(), (folder / 'log.txt').open('a') as log:
            call('train.py', [config, '--mutual', 'detector', *GRID, *common, '--resume'], dict(os.environ), log)
            checkpoint = (folder / 'last_checkpoint').read_text()
            mutual = str(folder / f'{name}.py')
            call('test.py', [mutual, checkpoint, *common, '--scales', '1.0'], dict(os.environ), log)
    except CalledProcessError:
        end = '\n'.join((folder / 'log.txt').read_text().splitlines()[-5:])
        sys.exit(f'{end}\nerror: {name} failed, {folder}/log.txt has all output; the same call continues')
    newest = max(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime)
    os.replace(newest, folder / 'rows.json')


def collect(folder: Path) -> dict:
    """The iterations of a training, the highest and the last loss of each width, and the sub-networks."""
    lines = [line for path in sorted(folder.glob('2*/vis_data/scalars.json')) for line in path.read_text().splitlines()]
    records = [record for record in map(json.loads, lines) if 'loss' in record]
    losses = {}
    for width in WIDTHS:
        key = 'loss' if width == max(WIDTHS) else f'w{width:g}/loss'
        values = [record[key] for record in records if key in record]
        losses[f'{width:g}'] = [round(max(values), 3), round(values[-1], 3)]
    rows = json.loads((folder / 'rows.json').read_text())
    return dict(iterations=records[-1]['step'], losses=losses, rows=rows)


def format_tables(found: Found) -> str:
    """The box mAP, the losses and the multiply-adds of each width, a table each."""
    cells: dict[str, Callable[[Mapping, Mapping], str]] = {
        'box mAP': lambda row, _: f'{row.get("box mAP", 0):.3f}',
        'Training loss, highest and last': lambda row, result: '{} / {}'.format(
            *(f'{loss:.1f}' for loss in result['losses'][f'{row["width"]:g}'])
        ),
        'M multiply-adds': lambda row, _: f'{row["multiply_adds"] / 1e6:.0f}' if 'multiply_adds' in row else '-',
    }
    parts = []
    for title, cell in cells.items():
        lines = head('detector', 'iterations', *(f'width {width:g}' for width in WIDTHS))
        for detector, result in found.items():
            rows = {row['width']: row for row in result['rows']}
            lines.append(line(detector, f'{result["iterations"]}', *(cell(rows[width], result) for width in WIDTHS)))
        parts.append(f'**{title}**\n\n' + '\n'.join(lines))
    return '\n\n'.join(parts)


if __name__ == '__main__':
    main()
