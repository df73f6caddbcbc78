"""Tables and plots of benchmarks/photographs.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .tables import (
    at_full_scale,
    cell,
    format_compute,
    format_fronts,
    format_leads,
    format_subnets,
    format_summary,
    head,
    line,
    metrics_in,
    spread,
)
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
SCOPES = ('MutualNet', 'scope detector')
STARTED_FROM_STOCK = ('elastic', 'elastic, a fifth of the training')


def format_tables(runs: Runs, compute: Mapping[str, float]) -> str:
    """All tables of a data set, of the trainings that exist; a title names the seeds that its table has."""
    parts = []
    results = {name: [result['rows'] for result in seeds.values()] for name, seeds in runs.items()}
    for metric in metrics_in(results):
        for title, (methods, table) in TABLES.items():
            if len(found := select(runs, methods, 'rows')) > 1:  # trainings without a common seed cannot be compared
                seeds = ', '.join(seeds_of(runs, trainings(found)))
                parts.append(f'**{title}, {metric}, seeds {seeds}**\n\n{table(runs, methods, compute, metric)}')
    return '\n\n'.join(parts)


def select(runs: Runs, methods: Sequence[str], part: str) -> dict[str, list[list[dict]]]:
    """The sub-networks of each method that has results, of the seeds that all of these methods have.

    Args:
        runs: The result of each seed, by training.
        methods: Names of trainings, or ``'independent'``.
        part: ``'rows'`` for the validation images, ``'training_images'``.
    """
    known = [method for method in methods if all(runs.get(name) for name in trainings([method]))]
    seeds = seeds_of(runs, trainings(known))
    return {
        method: [[row for name in trainings([method]) for row in runs[name][seed][part]] for seed in seeds]
        for method in known
        if seeds
    }


def trainings(methods: Iterable[str]) -> list[str]:
    """The names of the trainings of these methods."""
    return [name for method in methods for name in METHODS.get(method, (method,))]


def seeds_of(runs: Runs, names: Sequence[str]) -> list[str]:
    """The seeds that all of these trainings have."""
    return sorted(set.intersection(*(set(runs[name]) for name in names))) if names else []


def total_compute(method: str, compute: Mapping[str, float]) -> float:
    """Its compute in epochs of the stock detector, with the stock training that it starts from."""
    own = sum(compute[name] for name in trainings([method]))
    return own + (compute['independent 1'] if method in STARTED_FROM_STOCK else 0)


def format_steps(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """Each width at full scale, the means of the smaller scales and of all."""
    return format_summary(select(runs, methods, 'rows'), metric)


def format_each(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """Each sub-network."""
    return format_subnets(select(runs, methods, 'rows'), metric)


def format_lead(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """The lead of the first method at each scale, as the mean of the widths."""
    return format_leads(select(runs, methods, 'rows'), metric)


def format_equal_compute(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """The compute and each width at full scale."""
    found = select(runs, methods, 'rows')
    return format_compute(found, {name: total_compute(name, compute) for name in found}, WIDTHS, metric)


def format_scales(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """Width 1.0 at each scale."""
    found = select(runs, methods, 'rows')
    widest = {name: [[row for row in rows if row['width'] == 1] for rows in each] for name, each in found.items()}
    return format_subnets(widest, metric)


def format_scopes(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """The best sub-network within a few budgets."""
    return format_fronts(select(runs, methods, 'rows'), metric)


def format_full_network(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """Width 1.0 at full scale on both parts of the data; the difference is to the stock training of equal steps."""
    validation, training = (_widest(select(runs, methods, part), metric) for part in ('rows', 'training_images'))
    reference = validation.get('independent 1')
    lines = head('training', 'compute', 'validation images', 'training images', 'above', 'difference')
    for name, values in validation.items():
        difference = '' if name == 'independent 1' or reference is None else spread(values - reference)
        total = f'{total_compute(name, compute):.0f}'
        above = f'{(training[name] - values).mean():.3f}'
        lines.append(line(name, total, cell(values), cell(training[name]), above, difference))
    return '\n'.join(lines)


def format_fitting(runs: Runs, methods: Sequence[str], compute: Mapping[str, float], metric: str) -> str:
    """How much higher each width is on training images than on validation images, at full scale."""
    parts = [select(runs, methods, part) for part in ('rows', 'training_images')]
    lines = head('method', *(f'width {width:g}' for width in WIDTHS), 'mean')
    for name in parts[0]:
        validation, training = (at_full_scale(part[name], WIDTHS, metric) for part in parts)
        above = training - validation
        lines.append(line(name, *(cell(column) for column in above.T), cell(above.mean(1))))
    return '\n'.join(lines)


def _widest(runs: Mapping[str, Sequence], metric: str) -> dict[str, np.ndarray]:
    return {name: at_full_scale(each, (1.0,), metric)[:, 0] for name, each in runs.items()}


TABLES = {  # the methods of each table and its function
    'Equal steps': (EQUAL_STEPS, format_steps),
    'Equal steps, each sub-network': (EQUAL_STEPS, format_each),
    'Lead of MutualNet at equal steps': (EQUAL_STEPS, format_lead),
    'Equal compute': (EQUAL_COMPUTE, format_equal_compute),
    'The full network': (FULL_NETWORK, format_full_network),
    'The full network at each scale': (SCALES_OF_THE_FULL_NETWORK, format_scales),
    'Training images above validation images': (EQUAL_STEPS, format_fitting),
    'Scope backbone and scope detector': (SCOPES, format_scopes),
}
