"""Tables of several methods' runs, with the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmmutual.analysis import budgets_of, fronts

METRICS = ('box mAP', 'mask mAP')
Rows = list[dict[str, float]]  # the sub-networks of one run
Runs = Mapping[str, Sequence[Rows]]  # of each method, one for each seed


def metrics_in(methods: Runs) -> list[str]:
    """The metrics that the runs have."""
    rows = [row for runs in methods.values() for rows in runs for row in rows]
    return [metric for metric in METRICS if any(metric in row for row in rows)]


def format_grid(methods: Runs) -> str:
    """Each sub-network's multiply-adds and metrics, mean over the seeds and half their range."""
    metrics = metrics_in(methods)
    lines = [
        '',
        f'| method | width | scale | M multiply-adds | {" | ".join(metrics)} |',
        '|---' * (4 + len(metrics)) + '|',
    ]
    for method, runs in methods.items():
        for subnets in zip(*runs, strict=True):
            row = subnets[0]
            cells = [_cell(np.array([subnet.get(metric, np.nan) for subnet in subnets])) for metric in metrics]
            cost = f'{row["width"]:g} | {row["scale"]:g} | {row["multiply_adds"] / 1e6:.0f}'
            lines.append(f'| {method} | {cost} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def format_fronts(methods: Runs, number: int = 9) -> str:
    """The best value of each metric within a few budgets, mean over the seeds and half their range."""
    budgets, metrics = budgets_of(methods, number), metrics_in(methods)
    titles = [f'{method}: {metric}' for method in methods for metric in metrics]
    lines = ['', f'| M multiply-adds | {" | ".join(titles)} |', '|---' * (1 + len(titles)) + '|']
    columns = [fronts(runs, metric, budgets) for runs in methods.values() for metric in metrics]
    for index, budget in enumerate(budgets):
        cells = [_cell(column[:, index]) for column in columns]
        lines.append(f'| {budget / 1e6:.0f} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def format_differences(methods: Runs, reference: str) -> str:
    """What a method has more than the reference, of the same seed and sub-network: mean and range over the seeds.

    The last line is the mean over the sub-networks that both have.
    """
    others, metrics = [method for method in methods if method != reference], metrics_in(methods)
    titles = [f'{method}: {metric}' for method in others for metric in metrics]
    lines = ['', f'| width | scale | {" | ".join(titles)} |', '|---' * (2 + len(titles)) + '|']
    subnets = methods[reference][0]
    columns = [_gains(methods[method], methods[reference], metric) for method in others for metric in metrics]
    for index, subnet in enumerate(subnets):
        cells = [_spread(column[:, index]) for column in columns]
        lines.append(f'| {subnet["width"]:g} | {subnet["scale"]:g} | {" | ".join(cells)} |')
    lines.append(f'| mean | | {" | ".join(_spread(np.nanmean(column, axis=1)) for column in columns)} |')
    return '\n'.join(lines)


def best_of(methods: Runs, method: str, metric: str) -> list[tuple[float, float]]:
    """Width and scale of each sub-network on a method's front, cheapest first; by the mean over the seeds."""
    means = []
    for subnets in zip(*methods[method], strict=True):
        mean = float(np.mean([subnet[metric] for subnet in subnets]))
        means.append((subnets[0]['multiply_adds'], mean, subnets[0]['width'], subnets[0]['scale']))
    front, best = [], -np.inf
    for _, mean, width, scale in sorted(means):
        if mean > best:
            front.append((width, scale))
            best = mean
    return front


def _gains(ours: Sequence[Rows], theirs: Sequence[Rows], metric: str) -> np.ndarray:
    """A row for each seed, a column for each sub-network of theirs; NaN where ours has none."""
    return np.array(
        [
            [_value(mine, subnet, metric) - subnet.get(metric, np.nan) for subnet in other]
            for mine, other in zip(ours, theirs, strict=True)
        ]
    )


def _spread(gains: np.ndarray) -> str:
    if np.isnan(gains).any():
        return '-'
    return f'{gains.mean():+.3f} ({gains.min():+.3f} to {gains.max():+.3f})'


def _value(rows: Rows, subnet: dict[str, float], metric: str) -> float:
    for row in rows:
        if (row['width'], row['scale']) == (subnet['width'], subnet['scale']):
            return row.get(metric, np.nan)
    return np.nan


def _cell(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return '-'
    return f'{values.mean():.3f} ± {np.ptp(values) / 2:.3f}'
