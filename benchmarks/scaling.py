"""Fit time and memory of an iteration to measurements, and predict a training: python benchmarks/scaling.py.

The time of a pass is modelled as a constant, which the RoI heads dominate, plus shares for the multiply-adds of the
backbone and of neck and RPN. The passes of an iteration and its step add up. Peak memory is a constant plus a share for
the pixels of the batch.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmdet.utils import register_all_modules
from scipy.optimize import nnls
from terminaltables import AsciiTable
from torch import nn

from mmmutual.engine.sampling import SandwichSampler, Subnet
from mmmutual.evaluation import count_multiply_adds
from mmmutual.layers import set_width, use_width
from speed.batches import training_batch
from speed.iterations import SCALES, TimedIteration, one_pass, optimizer
from speed.memory import peak
from speed.networks import slimmable
from speed.options import CONFIGS, Options
from speed.timing import take_turns, timed

WIDTHS = (1.0, 0.5, 0.25)
DRAWN = 4  # mutual iterations that are measured, with all passes and the step
TERMS = ('constant', 'backbone', 'neck and RPN')
IMAGE = (600, 1000)  # of the COCO configs
EPOCHS, IMAGES = 24, 117_266  # of the 2x schedule; images with objects of COCO train2017
# mmdet's Mask R-CNN R-50 on eight V100 at 1333 x 800: detectron2's docs/notes/benchmarks.md
PUBLISHED_RATE, PUBLISHED_IMAGE = 53.0, (800, 1333)
BANDWIDTHS = (10, 100)  # GB/s between the GPUs
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class PassTime:
    """Milliseconds of a pass for one image: ``weights`` of the terms, milliseconds of a step, and the counts."""

    weights: np.ndarray
    step: float
    count: Callable[[Subnet, Size], np.ndarray]

    def of_pass(self, subnet: Subnet, size: Size, batch_size: int) -> float:
        """Milliseconds of forward and backward."""
        return float(self.count(subnet, size) * batch_size @ self.weights)

    def of_iteration(self, subnets: Sequence[Subnet], size: Size, batch_size: int) -> float:
        """Milliseconds of the passes and of the step."""
        return sum(self.of_pass(subnet, size, batch_size) for subnet in subnets) + self.step


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Model the time and the memory of a training iteration')
    parser.add_argument('--config', type=Path, default=CONFIGS / 'mutual_mask_rcnn_r50.py')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--sizes', nargs='+', default=['192x320', '320x512'], metavar='HEIGHTxWIDTH')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/scaling.json'))
    return parser.parse_args()


def main() -> None:
    """Measure, fit and print."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    sizes = [tuple(map(int, size.split('x'))) for size in args.sizes]
    options = Options(args.config, args.device, sizes[0], WIDTHS, args.rounds, args.batch_size, args.threads)
    model = slimmable(options.config(), args.device)
    passes, step = measure_passes(model, options, sizes)
    time = fit_time(model, passes, step, args.batch_size)
    checks = measure_iterations(model, options, sizes)
    memory = measure_memory(options, sizes)
    widths = model.backbone.widths
    tables = {
        'Time of a pass': time_table(time, passes, args.batch_size),
        'Drawn iterations': check_table(time, checks, args.batch_size),
        'Iterations in stock iterations': ratio_table(time, widths, [*sizes, IMAGE], args.batch_size),
        'Peak memory': memory_table(memory, args.batch_size, model),
        'Training on eight GPUs': training_table(time, widths, args.batch_size, model),
    }
    for title, rows in tables.items():
        print(f'\n{title}\n{AsciiTable(rows).table}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(tables, indent=1) + '\n')
    print(f'\nwritten: {args.out}')


def measure_passes(
    model: nn.Module, options: Options, sizes: Sequence[Size]
) -> tuple[dict[tuple[Subnet, Size], float], float]:
    """The median milliseconds of a pass of each sub-network and size, and of the optimizer's step."""
    model.train()
    steps = optimizer(model)
    calls = {}
    for size in sizes:
        batch = training_batch(replace(options, size=size), options.config())
        for width, scale in itertools.product(WIDTHS, SCALES):
            calls[Subnet(width, scale), size] = _pass(model, batch, Subnet(width, scale))
    times = take_turns(calls, options.rounds)
    step = median(timed(steps.step) for _ in range(options.rounds))
    model.zero_grad(set_to_none=True)
    return {key: median(values) for key, values in times.items()}, step


def _pass(model: nn.Module, batch: dict, subnet: Subnet) -> Callable[[], float]:
    def call() -> float:
        torch.manual_seed(0)  # proposals are sampled
        set_width(model, subnet.width)
        return one_pass(model, batch, subnet.scale)

    return call


def fit_time(model: nn.Module, passes: Mapping[tuple[Subnet, Size], float], step: float, batch_size: int) -> PassTime:
    """The weights of least squared relative errors, none of them negative."""

    @functools.cache
    def count(subnet: Subnet, size: Size) -> np.ndarray:
        with use_width(model, subnet.width):
            parts = count_multiply_adds(model, tuple(round(side * subnet.scale) for side in size))
        return np.array([1.0, parts['backbone'] / 1e9, (parts['neck'] + parts['rpn_head']) / 1e9])

    measured = np.array([*passes.values()])
    terms = np.array([count(*key) for key in passes]) * batch_size
    weights, _ = nnls(terms / measured[:, None], np.ones(len(measured)))
    return PassTime(weights, step, count)


def measure_iterations(
    model: nn.Module, options: Options, sizes: Sequence[Size]
) -> dict[tuple[tuple[Subnet, ...], Size], float]:
    """The median milliseconds of some drawn mutual iterations, with the step."""
    found = {}
    for size in sizes:
        batch = training_batch(replace(options, size=size), options.config())
        iteration = TimedIteration(model, batch, model.backbone.widths)
        for index in range(DRAWN):
            iteration.runner.iter = index
            iteration()
            found[tuple(iteration.subnets), size] = median(timed(iteration) for _ in range(options.rounds))
    return found


def measure_memory(options: Options, sizes: Sequence[Size]) -> dict[tuple[str, Size], float]:
    """Peak megabytes of stock and mutual iterations, each in a new process."""
    os.environ.setdefault('MALLOC_MMAP_THRESHOLD_', str(2**18))  # as in speed/memory.py
    found = {}
    for size, kind in itertools.product(sizes, ('stock', 'mutual')):
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            found[kind, size] = pool.apply(peak, (replace(options, size=size), kind))
    return found


def time_table(time: PassTime, passes: Mapping[tuple[Subnet, Size], float], batch_size: int) -> list[list[str]]:
    """The weights, and how far the predictions are from the measurements."""
    errors = [abs(time.of_pass(*key, batch_size) / value - 1) for key, value in passes.items()]
    units = ('ms an image', 'ms per G multiply-adds', 'ms per G multiply-adds')
    rows = [[name, f'{weight:.3g} {unit}'] for name, weight, unit in zip(TERMS, time.weights, units)]
    rows.append(['optimizer step', f'{time.step:.3g} ms'])
    rows.append(['error of a pass, median and largest', f'{median(errors):.1%}, {max(errors):.1%}'])
    return [['term', 'value'], *rows]


def check_table(
    time: PassTime, checks: Mapping[tuple[tuple[Subnet, ...], Size], float], batch_size: int
) -> list[list[str]]:
    """Predicted over measured time of whole iterations."""
    rows = []
    for (subnets, size), measured in checks.items():
        predicted = time.of_iteration(subnets, size, batch_size)
        names = ' '.join(map(str, subnets))
        rows.append([_name(size), names, f'{measured:.0f} ms', f'{predicted:.0f} ms', f'{predicted / measured:.3f}'])
    return [['size', 'passes', 'measured', 'predicted', 'ratio'], *rows]


def methods_of(widths: Sequence[float]) -> dict[str, SandwichSampler]:
    """Samplers of the methods and of other numbers of passes."""
    mutual = {f'MutualNet, {passes} passes': SandwichSampler(widths, SCALES, passes) for passes in (2, 3, 4, 6)}
    return {**mutual, 'US-Net, 4 passes': SandwichSampler(widths, (1.0,), 4)}


def mean_iteration(time: PassTime, sampler: SandwichSampler, size: Size, batch_size: int) -> float:
    """The expected milliseconds of an iteration."""
    subnets = itertools.product(sampler.widths, sampler.scales)
    times = {(width, scale): time.of_pass(Subnet(width, scale), size, batch_size) for width, scale in subnets}
    mean = {width: np.mean([times[width, scale] for scale in sampler.scales]) for width in sampler.widths}
    between = np.mean([mean[width] for width in sampler.widths[1:-1] or sampler.widths])
    narrow = mean[sampler.widths[-1]] + (sampler.num_subnets - 2) * between
    return float(times[sampler.widths[0], sampler.scales[0]] + narrow + time.step)


def ratio_table(time: PassTime, widths: Sequence[float], sizes: Sequence[Size], batch_size: int) -> list[list[str]]:
    """The expected time of each method's iteration over that of a stock iteration."""
    rows = []
    for name, sampler in methods_of(widths).items():
        stock = [time.of_iteration([Subnet(1.0)], size, batch_size) for size in sizes]
        means = [mean_iteration(time, sampler, size, batch_size) for size in sizes]
        rows.append([name, *(f'{mean / whole:.2f}' for mean, whole in zip(means, stock))])
    return [['method', *map(_name, sizes)], *rows]


def memory_table(memory: Mapping[tuple[str, Size], float], batch_size: int, model: nn.Module) -> list[list[str]]:
    """Peaks, and a line through them; weights, gradients and momentum are what the constant must have."""
    state = 3 * 4 * sum(parameter.numel() for parameter in model.parameters()) / 1e6
    sizes = list(dict.fromkeys(size for _, size in memory))
    rows = []
    for kind in ('stock', 'mutual'):
        pixels = [size[0] * size[1] * batch_size / 1e6 for size in sizes]
        peaks = [memory[kind, size] for size in sizes]
        slope, constant = np.polyfit(pixels, peaks, 1) if len(sizes) > 1 else (np.nan, np.nan)
        line = f'{constant:.0f} MB + {slope:.0f} MB per megapixel'
        rows.append([kind, *(f'{each:.0f} MB' for each in peaks), line])
    state_row = ['weights, gradients, momentum', *(f'{state:.0f} MB' for _ in sizes), '']
    return [['iteration', *map(_name, sizes), 'fit'], *rows, state_row]


def training_table(time: PassTime, widths: Sequence[float], batch_size: int, model: nn.Module) -> list[list[str]]:
    """Hours of a COCO training on eight V100, from the published rate of the stock detector.

    The rate grows as the pixels shrink. The gradients are exchanged once an iteration, after the last pass.
    """
    pixels = np.prod(IMAGE) / np.prod(PUBLISHED_IMAGE)
    stock_hours = EPOCHS * IMAGES / PUBLISHED_RATE * pixels / 3600
    stock = time.of_iteration([Subnet(1.0)], IMAGE, batch_size)
    exchanged = 2 * 7 / 8 * 4 * sum(parameter.numel() for parameter in model.parameters()) / 1e9  # GB in a ring of 8
    seconds = stock_hours * 3600 / (EPOCHS * IMAGES / (8 * batch_size))
    rows = [['stock', '1', f'{stock_hours:.1f}', *(f'{exchanged / rate / seconds:.1%}' for rate in BANDWIDTHS)]]
    for name, sampler in methods_of(widths).items():
        ratio = mean_iteration(time, sampler, IMAGE, batch_size) / stock
        shares = (f'{exchanged / rate / (seconds * ratio):.1%}' for rate in BANDWIDTHS)
        rows.append([name, f'{ratio:.2f}', f'{stock_hours * ratio:.1f}', *shares])
    return [['method', 'over stock', 'hours', *(f'exchange at {rate} GB/s' for rate in BANDWIDTHS)], *rows]


def _name(size: Size) -> str:
    return f'{size[0]} x {size[1]}'


if __name__ == '__main__':
    main()
