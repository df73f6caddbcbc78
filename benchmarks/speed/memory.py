"""The peak memory of a mutual iteration over that of a stock one at full width, and with in-place distillation."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from statistics import median

import torch
from mmdet.utils import register_all_modules

from mmmutual.engine.sampling import Subnet

from .batches import training_batch
from .iterations import TimedIteration, separate_passes
from .networks import slimmable
from .options import Options
from .table import Row

TARGETS = dict(mutual=1.05, distilled=1.10)
DISTILL = dict(type='PearsonDistillation')
ITERATIONS = 3
STATUS = Path('/proc/self/status')


def measure(options: Options, rounds: int) -> list[Row]:
    """Measure each ratio in separate processes, because a process does not return its memory."""
    if options.device == 'cpu' and not STATUS.exists():
        return []
    # glibc would keep freed blocks of up to 32 MB, and the holes between them would count
    os.environ.setdefault('MALLOC_MMAP_THRESHOLD_', str(2**18))
    spawn = multiprocessing.get_context('spawn')
    peaks: dict[str, list[float]] = dict(stock=[], mutual=[], distilled=[])
    for _ in range(rounds):
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            for kind, values in peaks.items():
                values.append(pool.apply(peak, (options, kind)))
    what = f'peak memory of a mutual iteration, batch {options.batch_size}'
    return [
        _row(peaks, 'mutual', 'stock', what),
        _row(peaks, 'distilled', 'mutual', f'{what}, with distillation over without'),
    ]


def _row(peaks: dict[str, list[float]], kind: str, reference: str, what: str) -> Row:
    ratios = tuple(ours / theirs for ours, theirs in zip(peaks[kind], peaks[reference]))
    return Row(what, ratios, f'{reference}: {median(peaks[reference]):.0f} MB with weights and momentum', TARGETS[kind])


def peak(options: Options, kind: str) -> float:
    """Peak megabytes of a few iterations, including the model and the optimizer's state."""
    torch.set_num_threads(options.threads)
    register_all_modules(init_default_scope=True)
    config = options.config()
    batch = training_batch(options, config)
    before = 0.0 if options.device == 'cuda' else status('VmRSS')
    model = slimmable(config, options.device)
    if kind == 'stock':
        iteration = separate_passes({1.0: model}, batch, [Subnet(1.0)])
    else:
        iteration = TimedIteration(model, batch, options.widths, distill=DISTILL if kind == 'distilled' else None)
    for _ in range(ITERATIONS):
        iteration()
    if options.device == 'cuda':
        return torch.cuda.max_memory_allocated() / 1e6
    return status('VmHWM') - before


def status(name: str) -> float:
    """An entry of the status of this process, in megabytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f'{STATUS} has no {name}')
