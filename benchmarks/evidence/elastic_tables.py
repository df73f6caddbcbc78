"""Tables and plot of benchmarks/elastic.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .elastic_jobs import FINE_TUNING, STOCK
from .tables import at_full_scale, format_compute
from .trainings import WIDTHS

Runs = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]  # the sub-networks of each seed, by training
ITERATIONS = (0, 125, 250, 500)
ALONE = tuple(f'narrow {width:g}' for width in WIDTHS[1:])
METRIC = 'box mAP'
FIRST = f'ordered, {FINE_TUNING}'
TABLES = {  # a difference is to the first line of the table
    **{
        f'channels ordered, and as they are, {count} iterations': (f'ordered, {count}', f'as it is, {count}')
        for count in ITERATIONS
    },
    'equal compute': (FIRST, 'scratch, equal compute', 'scratch, stock not counted', 'narrow networks alone'),
    'initial weights of the backbone only, 250 iterations': ('backbone, ordered', 'backbone, as it is'),
    'scope detector': tuple(f'detector, {start}, {count}' for count in (250, 0) for start in ('ordered', 'as it is')),
    'importance, 0 iterations': ('ordered, 0', 'l1, 0', 'l2, 0'),
    'importance, 250 iterations': (FIRST, 'l1, 250', 'l2, 250'),
    'learning rate, 250 iterations': (FIRST, 'half lr, 250', 'quarter lr, 250'),
    'distillation, 250 iterations': (FIRST, 'RoIDistillation, 250', 'PearsonDistillation, 250'),
    'passes, equal compute': (FIRST, '3 passes', '2 passes'),
}
LINES = {
    'ordered': tuple(f'ordered, {count}' for count in ITERATIONS),
    'as they are': tuple(f'as it is, {count}' for count in ITERATIONS),
    'mutual from scratch': ('scratch, equal compute',),
    'narrow networks alone': ('narrow networks alone',),
}


def with_alone(runs: Runs) -> dict[str, Sequence]:
    """The runs, and the stock detector together with the narrow networks as one method of all widths."""
    found = dict(runs)
    if all(name in runs for name in ('stock', *ALONE)):
        found['narrow networks alone'] = [
            [row for rows in seed for row in rows] for seed in zip(*(runs[name] for name in ('stock', *ALONE)))
        ]
    return found


def total_compute(name: str, compute: Mapping[str, float]) -> float:
    """The compute of a method in iterations of the stock detector, the stock training included."""
    if name == 'narrow networks alone':
        return STOCK + sum(compute[part] for part in ALONE)
    return compute[name] + (0 if name.startswith('scratch') or name == 'stock' else STOCK)


def format_tables(detector: str, runs: Runs, compute: Mapping[str, float]) -> str:
    """The tables of which the first training and another have results."""
    runs, parts = with_alone(runs), []
    for title, names in TABLES.items():
        shown = {name: runs[name] for name in names if name in runs}
        if names[0] in shown and len(shown) > 1:
            totals = {name: total_compute(name, compute) for name in shown}
            parts.append(f'**{detector}: {title}**\n\n{format_compute(shown, totals, WIDTHS, METRIC)}\n')
    return '\n'.join(parts)


def plot_compute(runs: Runs, compute: Mapping[str, float], path: Path) -> Path:
    """Plot the mean of the widths, and single widths, over the compute of the trainings; shaded: range of the seeds."""
    runs = with_alone(runs)
    figure = Figure(figsize=(12, 4), layout='constrained')
    stock = at_full_scale(runs['stock'], WIDTHS, METRIC)[:, 0]
    panels = {'mean of the widths': None, 'width 1': 0, 'width 0.5': 2}
    for axis, (title, column) in zip(figure.subplots(1, len(panels)), panels.items()):
        for label, names in LINES.items():
            known = [name for name in names if name in runs]
            if not known:
                continue
            costs = [total_compute(name, compute) for name in known]
            grids = [at_full_scale(runs[name], WIDTHS, METRIC) for name in known]
            points = np.stack([grid.mean(1) if column is None else grid[:, column] for grid in grids])
            (drawn,) = axis.plot(costs, points.mean(1), marker='o', markersize=4, label=label)
            low, high = points.min(1), points.max(1)
            if len(known) > 1:
                axis.fill_between(costs, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
            else:
                axis.vlines(costs, low, high, color=drawn.get_color(), alpha=0.4)
        if column == 0:
            axis.plot([STOCK], [stock.mean()], 'k*', markersize=9, label='stock detector')
        axis.set(title=title, xlabel='compute in iterations of the stock detector', ylabel=METRIC)
        axis.grid(alpha=0.3)
    handles = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=len(handles))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
