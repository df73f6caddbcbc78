"""Fronts of several methods in one plot: the best metric of each within a budget of multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .subnet_plots import metrics_of

BEYOND = 1.06  # how far the plot continues to the right of the most expensive sub-network
Rows = Sequence[Mapping[str, float]]  # the sub-networks of one run, as tools/test.py writes them to subnets.json


def front(subnets: Rows, metric: str, budgets: np.ndarray) -> np.ndarray:
    """The best value of a metric within each budget.

    Args:
        subnets: Sub-networks with ``multiply_adds`` and metrics.
        metric: Name of a metric.
        budgets: (B,) multiply-adds.

    Returns:
        (B,) values; NaN where nothing fits the budget.

    Examples:
        >>> front([dict(multiply_adds=2, mAP=0.4), dict(multiply_adds=3, mAP=0.3)], 'mAP', np.array([1, 2, 3]))
        array([nan, 0.4, 0.4])
    """
    best: np.ndarray = np.full(len(budgets), np.nan)
    for subnet in subnets:
        best = np.where(budgets >= subnet['multiply_adds'], np.fmax(best, subnet.get(metric, np.nan)), best)
    return best


def fronts(runs: Sequence[Rows], metric: str, budgets: np.ndarray) -> np.ndarray:
    """The fronts of several runs of one method, (runs, B)."""
    return np.stack([front(subnets, metric, budgets) for subnets in runs])


def budgets_of(methods: Mapping[str, Sequence[Rows]], number: int) -> np.ndarray:
    """Budgets from the cheapest to the most expensive sub-network, evenly spaced in their logarithm."""
    costs = [subnet['multiply_adds'] for runs in methods.values() for subnets in runs for subnet in subnets]
    return np.geomspace(min(costs), max(costs), number)


def plot_fronts(methods: Mapping[str, Sequence[Rows]], path: str | Path) -> Path:
    """Plot the front of each method, the mean of its runs with their range.

    The front is a staircase: its height over a budget is what one gets for it. A point marks each sub-network that is
    the best within its own cost, in the mean of the runs.

    Args:
        methods: The runs of each method, under the name that the legend shows.
        path: Where the picture goes; its suffix chooses the format.

    Returns:
        The path.

    Raises:
        ValueError: If there is no metric to plot.
    """
    metrics = metrics_of([subnet for runs in methods.values() for subnets in runs for subnet in subnets])
    if not metrics:
        raise ValueError('there is no sub-network with a metric to plot')
    figure = Figure(figsize=(5.2 * len(metrics), 4.2), layout='constrained')
    costs = sorted({subnet['multiply_adds'] for runs in methods.values() for subnets in runs for subnet in subnets})
    budgets = np.array([*costs, costs[-1] * BEYOND])
    for axis, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics):
        for name, runs in methods.items():
            values = fronts(runs, metric, budgets)
            mean = values.mean(0)
            best = np.nan_to_num(mean, nan=-np.inf)  # NaN where the budget is too small for a run
            rises = np.flatnonzero(best > np.append(-np.inf, best[:-1]))
            (line,) = axis.step(
                budgets / 1e6, mean, where='post', label=name, marker='o', markevery=rises, markersize=4
            )
            area = dict(step='post', color=line.get_color(), alpha=0.15, linewidth=0)
            axis.fill_between(budgets / 1e6, values.min(0), values.max(0), **area)
        axis.set(xlabel='budget: multiply-adds (M), log scale', ylabel=f'best {metric} within it', xscale='log')
        axis.xaxis.set_major_locator(LogLocator(base=2, subs=_ticks(costs)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f'{cost:g}'))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
        axis.legend(loc='lower right')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _ticks(costs: Sequence[float]) -> tuple[float, ...]:
    """Where the axis has ticks within an octave: more where the costs span only a few."""
    return (1.0,) if costs[-1] > 8 * costs[0] else (1.0, 1.25, 1.5, 1.75)
