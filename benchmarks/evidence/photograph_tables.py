"""Tables and plots of benchmarks/photographs.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .tables import at_full_scale, cell, format_compute, format_subnets, format_summary, head, line, metrics_in, spread
from .trainings import WIDTHS

Runs = Mapping[str, Mapping[str, Mapping]]  # the result of each seed, by training
INDEPENDENT = tuple(f'independent {width:g}' for width in WIDTHS)
METHODS = {'independent': INDEPENDENT}  # a training has its own name, but these four are one method
EQUAL_STEPS = ('MutualNet', 'US-Net', 'independent')
EQUAL_COMPUTE = (
    'MutualNet, equal compute',
    'US-Net',
    'independent',
    'elastic',
    'elastic, a fifth of the training',
    'MutualNet',
)
FULL_NETWORK = (
    'independent 1',
    'MutualNet',
    'US-Net',
    'scales only',
    'boosting',
    'independent 1, equal compute',
    'MutualNet, equal compute',
    'elastic',
)
SCALES_OF_THE_FULL_NETWORK = ('MutualNet', 'scales only', 'US-Net', 'independent 1', 'independent 1, equal compute')
FITTED = ('MutualNet', 'US-Net', 'independent')
STARTED_FROM_STOCK = ('elastic', 'elastic, a fifth of the training')


def format_tables(runs: Runs, compute: Mapping[str, float]) -> str:
    """All tables of a data set, of the trainings that exist."""
    parts = []
    for metric in metrics_in(select(runs, [*runs], 'rows')):
        parts += [f'**{title}, {metric}**\n\n{table}' for title, table in tables_of(runs, compute, metric).items()]
    return '\n\n'.join(parts)


def tables_of(runs: Runs, compute: Mapping[str, float], metric: str) -> dict[str, str]:
    """The tables of a metric by title, without those whose trainings are missing."""
    found = {}
    equal_steps = select(runs, EQUAL_STEPS, 'rows')
    if len(equal_steps) > 1:
        found['Equal steps'] = format_summary(equal_steps, metric)
        found['Equal steps, each sub-network'] = format_subnets(equal_steps, metric)
    equal_compute = select(runs, EQUAL_COMPUTE, 'rows')
    if len(equal_compute) > 1:
        totals = {name: total_compute(name, compute) for name in equal_compute}
        found['Equal compute'] = format_compute(equal_compute, totals, WIDTHS, metric)
    if len(select(runs, FULL_NETWORK, 'rows')) > 1:
        found['The full network'] = format_full_network(runs, compute, metric)
    scales = select(runs, SCALES_OF_THE_FULL_NETWORK, 'rows')
    if len(scales) > 1:
        widest = {name: [[row for row in rows if row['width'] == 1] for rows in each] for name, each in scales.items()}
        found['The full network at each scale'] = format_subnets(widest, metric)
    if len(select(runs, FITTED, 'rows')) > 1:
        found['Training and validation images'] = format_fitting(runs, metric)
    return found


def select(runs: Runs, methods: Sequence[str], part: str) -> dict[str, list[list[dict]]]:
    """The sub-networks of each method that has results, of the seeds that all of these methods have.

    Args:
        runs: The result of each seed, by training.
        methods: Names of trainings, or ``'independent'``.
        part: ``'rows'`` for the validation images, ``'training_images'``.
    """
    names = {method: METHODS.get(method, (method,)) for method in methods}
    names = {method: each for method, each in names.items() if all(runs.get(name) for name in each)}
    seeds = seeds_of(runs, [name for each in names.values() for name in each])
    return {
        method: [[row for name in each for row in runs[name][seed][part]] for seed in seeds]
        for method, each in names.items()
        if seeds
    }


def seeds_of(runs: Runs, names: Sequence[str]) -> list[str]:
    """The seeds that all of these trainings have."""
    return sorted(set.intersection(*(set(runs[name]) for name in names))) if names else []


def total_compute(method: str, compute: Mapping[str, float]) -> float:
    """Its compute in epochs of the stock detector, with the stock training that it starts from."""
    own = sum(compute[name] for name in METHODS.get(method, (method,)))
    return own + (compute['independent 1'] if method in STARTED_FROM_STOCK else 0)


def format_full_network(runs: Runs, compute: Mapping[str, float], metric: str) -> str:
    """Width 1.0 at full scale on both parts of the data; the difference is to the stock training of equal steps."""
    validation, training = (_widest(select(runs, FULL_NETWORK, part), metric) for part in ('rows', 'training_images'))
    reference = validation.get('independent 1')
    lines = head('training', 'compute', 'validation images', 'training images', 'above', 'difference')
    for name, values in validation.items():
        difference = '' if name == 'independent 1' or reference is None else spread(values - reference)
        total = f'{total_compute(name, compute):.0f}'
        above = f'{(training[name] - values).mean():.3f}'
        lines.append(line(name, total, cell(values), cell(training[name]), above, difference))
    return '\n'.join(lines)


def format_fitting(runs: Runs, metric: str) -> str:
    """How much higher each width is on training images than on validation images, at full scale."""
    parts = [select(runs, FITTED, part) for part in ('rows', 'training_images')]
    lines = head('method', *(f'width {width:g}' for width in WIDTHS), 'mean')
    for name in parts[0]:
        validation, training = (at_full_scale(part[name], WIDTHS, metric) for part in parts)
        above = training - validation
        lines.append(line(name, *(cell(column) for column in above.T), cell(above.mean(1))))
    return '\n'.join(lines)


def _widest(runs: Mapping[str, Sequence], metric: str) -> dict[str, np.ndarray]:
    return {name: at_full_scale(each, (1.0,), metric)[:, 0] for name, each in runs.items()}
