"""Check mmmutual on a CUDA device and measure its speed there, within 8 minutes: make gpu-check.

The checks of the device come first, then the measurements by importance; those for which no time is left are left out.
Results are printed, and written to work_dirs/gpu_check.json.

Exit status: 0 if everything passed, 1 if a check or a measurement failed, 2 for wrong arguments, and 3 without a CUDA
device. ``make`` itself returns 2 for each of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import mmcv
import torch
from mmdet.utils import register_all_modules

from mmmutual.evaluation import device_name
from speed import latency, memory, training, waiting
from speed.budget import Budget
from speed.device_checks import CHECKS
from speed.device_setting import PASSED, WIDTHS, Setting, reason_of, run_checks
from speed.options import CONFIGS, Options
from speed.table import Row, as_text

FAILED, NO_DEVICE = 1, 3
SECONDS = 480
NOT_ON_CPU = ('float16', 'bfloat16')  # MMEngine's AmpOptimWrapper refuses a CPU
Measured: TypeAlias = 'list[Row] | latency.Grid'
Result: TypeAlias = 'Measured | str | Exception'  # a sentence if the part is left out, an error if it failed


@dataclass(frozen=True)
class Part:
    """A measurement.

    Attributes:
        measure: Returns rows, or the latency of each sub-network.
        needed: Seconds that have to be left when it starts.
        most: Seconds after which it starts no further round.
    """

    measure: Callable[[Options], Measured]
    needed: float
    most: float


PARTS = {  # the most important first
    'iteration': Part(training.measure, needed=60, most=90),
    'waiting': Part(waiting.measure, needed=45, most=60),
    'memory': Part(lambda options: memory.measure(options, rounds=1), needed=75, most=75),
    'latency': Part(latency.measure, needed=45, most=60),
}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Check mmmutual on a CUDA device and measure its speed there',
        epilog='exit status: 0 passed, 1 a check or measurement failed, 2 wrong arguments, 3 no CUDA device',
    )
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'), help='cpu rehearses with small sizes')
    parser.add_argument('--seconds', type=float, default=SECONDS, help=f'time for all parts; default: {SECONDS}')
    parser.add_argument(
        '--parts',
        nargs='*',
        default=list(PARTS),
        choices=list(PARTS),
        metavar='PART',
        help=f'default: {" ".join(PARTS)}',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_check.json'), help='JSON file for all results')
    return parser.parse_args(arguments)


def make_options(device: str) -> Options:
    """Mask R-CNN R-50 at the size of the COCO configs, or small to rehearse."""
    name, size, rounds = 'mutual_mask_rcnn_r50', (608, 1024), 20
    if device == 'cpu':
        name, size, rounds = 'mutual_mask_rcnn_r18_shapes', (64, 64), 1
    return Options(CONFIGS / f'{name}.py', device, size, WIDTHS, rounds, batch_size=2, threads=torch.get_num_threads())


def make_setting(device: str) -> Setting:
    """The checks at the size of the shapes example, or smaller to rehearse."""
    return Setting(device) if device == 'cuda' else Setting(device, image_size=64, iterations=1)


def run_parts(
    parts: Mapping[str, Part],
    options: Options,
    budget: Budget,
    report: Callable[[str, Result], object] = lambda name, result: None,
) -> dict[str, Result]:
    """Measure each part for which time is left.

    Args:
        parts: The most important first.
        options: Without a time limit.
        budget: The time for all of them.
        report: Called with the name and the result of each.

    Returns:
        The results by part.
    """
    results: dict[str, Result] = {}
    for name, part in parts.items():
        try:
            refusal = budget.refusal(name, part.needed)
            results[name] = refusal or part.measure(replace(options, until=budget.until(part.most)))
        except Exception as error:
            results[name] = error
        report(name, results[name])
    return results


def as_report(result: Result) -> str:
    """The result of a part for the terminal."""
    if isinstance(result, Exception):
        return f'failed: {reason_of(result)}'
    if isinstance(result, str):
        return result
    return latency.as_grid(result) if isinstance(result, dict) else as_text(result)


def as_json(result: Result) -> str | list[dict]:
    """The result of a part for the file."""
    if isinstance(result, (str, Exception)):
        return as_report(result)
    return latency.as_dicts(result) if isinstance(result, dict) else [row.as_dict() for row in result]


def versions(device: str) -> dict[str, str | None]:
    """The device and the versions that decide its speed."""
    name = device_name(torch.device(device))
    return dict(device=name, torch=torch.__version__, cuda=torch.version.cuda, mmcv=mmcv.__version__)


def missing_device() -> str:
    """Why there is no CUDA device; empty if there is one."""
    if torch.cuda.is_available():
        return ''
    reason = 'finds no GPU' if torch.version.cuda else 'is built without CUDA'
    return f'no CUDA device: torch {torch.__version__} {reason}; make gpu-check needs one'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and the parts; return the exit status."""
    args = parse_args(arguments)
    if args.device == 'cuda' and missing_device():
        print(missing_device())
        return NO_DEVICE
    budget = Budget(args.seconds)
    warnings.filterwarnings('ignore')
    register_all_modules(init_default_scope=True)
    found: dict = dict(versions(args.device), checks={}, parts={})
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(kind: str, name: str, value: object, text: str) -> None:
        print(text, flush=True)
        found[kind][name] = value
        args.out.write_text(json.dumps(found, indent=2) + '\n')

    print(', '.join(f'{name} {value}' for name, value in versions(args.device).items()))
    results = run_checks(
        make_setting(args.device),
        {name: check for name, check in CHECKS.items() if args.device == 'cuda' or name not in NOT_ON_CPU},
        lambda name, result: keep('checks', name, result, f'{name}: {result}'),
    )
    measured = run_parts(
        {name: part for name, part in PARTS.items() if name in args.parts},
        make_options(args.device),
        budget,
        lambda name, result: keep('parts', name, as_json(result), f'\n{name}\n{as_report(result)}'),
    )
    failed = [name for name, result in results.items() if result != PASSED]
    failed += [name for name, result in measured.items() if isinstance(result, Exception)]
    print(f'\nwritten: {args.out}; ' + (f'failed: {", ".join(failed)}' if failed else 'all checks passed'))
    return FAILED if failed else 0


if __name__ == '__main__':
    sys.exit(main())
