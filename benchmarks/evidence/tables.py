"""Tables of several methods' runs, with the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmmutual.evaluation.plotting import budgets_of, fronts

METRICS = ('box mAP', 'mask mAP')
Rows = list[dict[str, float]]  # the sub-networks of one run
Runs = Mapping[str, Sequence[Rows]]  # of each method, one for each seed


def metrics_in(methods: Runs) -> list[str]:
    """The metrics that the runs have."""
    rows = [row for runs in methods.values() for rows in runs for row in rows]
    return [metric for metric in METRICS if any(metric in row for row in rows)]


def format_summary(methods: Runs, metric: str) -> str:
    """A line for each method: its widths at full scale, the means of the smaller scales and of all sub-networks.

    The last column is the mean minus the mean of the first method's run with the same seed.
    """
    subnets = next(iter(methods.values()))[0]
    scales = sorted({row['scale'] for row in subnets}, reverse=True)
    full = [index for index, row in enumerate(subnets) if row['scale'] == scales[0]]
    groups = {f'width {subnets[index]["width"]:g}': [index] for index in full}
    for scale in scales[1:]:
        groups[f'mean of scale {scale:g}'] = [index for index, row in enumerate(subnets) if row['scale'] == scale]
    groups['mean of all'] = range(len(subnets))
    values = {method: _values(runs, subnets, metric) for method, runs in methods.items()}
    reference = next(iter(values.values())).mean(axis=1)
    lines = head('method', *groups, 'difference')
    for method, grid in values.items():
        difference = '' if method == next(iter(values)) else spread(grid.mean(axis=1) - reference)
        lines.append(line(method, *(cell(grid[:, group].mean(axis=1)) for group in groups.values()), difference))
    return '\n'.join(lines)


def format_subnets(methods: Runs, metric: str) -> str:
    """A line for each sub-network: the metric of each method, and the gain of the first method over each other method.

    If the methods have different multiply-adds, all are listed.
    """
    first, *others = methods
    subnets = methods[first][0]
    values = {method: _values(runs, subnets, metric) for method, runs in methods.items()}
    costs = [_values(runs, subnets, 'multiply_adds')[0] / 1e6 for runs in methods.values()]
    leads = [values[first] - values[other] for other in others]
    lines = head('width', 'scale', 'M multiply-adds', *methods, *(f'{first} over {other}' for other in others))
    for index, subnet in enumerate(subnets):
        known = [column[index] for column in costs if not np.isnan(column[index])]
        cost = ' / '.join(dict.fromkeys(f'{cost:.0f}' for cost in known))
        cells = [cell(grid[:, index]) for grid in values.values()]
        spreads = [spread(lead[:, index]) for lead in leads]
        lines.append(line(f'{subnet["width"]:g}', f'{subnet["scale"]:g}', cost, *cells, *spreads))
    return '\n'.join(lines)


def format_leads(methods: Runs, metric: str) -> str:
    """The lead of the first method over each other method at each scale, as the mean of the widths that both have."""
    first, *others = methods
    subnets = methods[first][0]
    values = {method: _values(runs, subnets, metric) for method, runs in methods.items()}
    lines = head('scale', *(f'{first} over {other}' for other in others))
    for scale in sorted({row['scale'] for row in subnets}, reverse=True):
        places = [index for index, row in enumerate(subnets) if row['scale'] == scale]
        leads = [values[first][:, places] - values[other][:, places] for other in others]
        shared = [lead[:, ~np.isnan(lead).any(axis=0)] for lead in leads]
        lines.append(line(f'{scale:g}', *(spread(lead.mean(axis=1)) if lead.size else '-' for lead in shared)))
    return '\n'.join(lines)


def format_compute(runs: Runs, compute: Mapping[str, float], widths: Sequence[float], metric: str) -> str:
    """A line for each training: its compute, its widths at full scale, their mean, the difference of the means.

    A sub-network that found nothing counts as 0. The difference is to the first training.
    """
    values = {name: at_full_scale(each, widths, metric) for name, each in runs.items()}
    reference = next(iter(values.values())).mean(1)
    lines = head('training', 'compute', *(f'width {width:g}' for width in widths), 'mean', 'difference')
    for name, grid in values.items():
        difference = '' if name == next(iter(values)) else spread(grid.mean(1) - reference)
        columns = [cell(column) for column in grid.T]
        lines.append(line(name, f'{compute[name]:.0f}', *columns, cell(grid.mean(1)), difference))
    return '\n'.join(lines)


def at_full_scale(runs: Sequence[Rows], widths: Sequence[float], metric: str) -> np.ndarray:
    """(seeds, widths) at scale 1.0; NaN for a width that a training lacks, 0 for one that found nothing."""
    found = [{row['width']: row.get(metric, 0.0) for row in rows if row['scale'] == 1} for rows in runs]
    return np.array([[seed.get(width, np.nan) for width in widths] for seed in found])


def format_fronts(methods: Runs, metric: str, number: int = 9) -> str:
    """The best value within a few budgets, mean over the seeds and half their range."""
    budgets = budgets_of(methods, number)
    columns = [fronts(runs, metric, budgets) for runs in methods.values()]
    lines = head('within M multiply-adds', *methods)
    for index, budget in enumerate(budgets):
        lines.append(line(f'{budget / 1e6:.0f}', *(cell(column[:, index]) for column in columns)))
    return '\n'.join(lines)


def best_of(runs: Sequence[Rows], metric: str) -> list[tuple[float, float]]:
    """Width and scale of each sub-network on a method's front, cheapest first; by the mean over the seeds."""
    means = []
    for subnets in zip(*runs, strict=True):
        mean = float(np.mean([subnet.get(metric, np.nan) for subnet in subnets]))
        means.append((subnets[0]['multiply_adds'], mean, subnets[0]['width'], subnets[0]['scale']))
    front, best = [], -np.inf
    for _, mean, width, scale in sorted(means):
        if mean > best:
            front.append((width, scale))
            best = mean
    return front


def _values(runs: Sequence[Rows], subnets: Rows, metric: str) -> np.ndarray:
    """(seeds, sub-networks); NaN if a sub-network found nothing, or if the method does not have the sub-network."""
    found = [{(row['width'], row['scale']): row.get(metric, np.nan) for row in rows} for rows in runs]
    return np.array([[run.get((row['width'], row['scale']), np.nan) for row in subnets] for run in found])


def head(*titles: str) -> list[str]:
    """The first two lines of a table."""
    return [line(*titles), '|---' * len(titles) + '|']


def line(*cells: str) -> str:
    """A line of a table."""
    return f'| {" | ".join(cells)} |'


def cell(values: np.ndarray) -> str:
    """The mean over the seeds and half their range."""
    if np.isnan(values).any():
        return '-'
    return f'{values.mean():.3f} ± {np.ptp(values) / 2:.3f}'


def spread(gains: np.ndarray) -> str:
    """The mean of the differences between runs of one seed, and their range."""
    if np.isnan(gains).any():
        return '-'
    return f'{gains.mean():+.3f} ({gains.min():+.3f} to {gains.max():+.3f})'
