"""Plots of sub-networks: each metric over a cost, one line for each input scale, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from ..query_table.table import QueryTable

MARKER = 3  # half the size of a point that no label may cover, pixels
NO_METRICS = ('width', 'scale', 'decoder_layers', 'multiply_adds', 'parameters', 'latency_ms', 'latency_p90_ms')


def metrics_of(subnets: Sequence[Mapping[str, float]]) -> list[str]:
    """The metrics that any of the sub-networks has; empty if nothing was detected."""
    return [key for key in dict.fromkeys(key for subnet in subnets for key in subnet) if key not in NO_METRICS]


def plot_subnets(
    subnets: Sequence[Mapping[str, float]],
    path: str | Path,
    title: str = '',
    stock: Mapping[str, float] | None = None,
) -> Path:
    """Plot each metric of a table of sub-networks over multiply-adds.

    Args:
        subnets: Sub-networks with ``width``, ``scale``, ``multiply_adds`` and metrics, as
            ``format_table`` takes them.
        path: Where the picture goes; its suffix chooses the format.
        title: Printed above the plot.
        stock: A stock detector in the same form, drawn as a star.

    Returns:
        The path.

    Raises:
        ValueError: If there are no sub-networks or no metrics.
    """
    if not metrics_of(subnets):
        raise ValueError('there is no sub-network with a metric to plot')
    figure, axes = _panels(subnets, title)
    for metric, axis in axes.items():
        _draw_scales(axis, subnets, 'multiply_adds', metric, marker='o')
        _label_widths(axis, subnets, metric)
        if stock and {'multiply_adds', metric} <= set(stock):
            place = stock['multiply_adds'] / _unit(subnets, 'multiply_adds')[0], stock[metric]
            axis.plot(*place, '*', color='0.15', markersize=11, label='stock')
        axis.margins(x=0.08, y=0.12)  # room for the labels
        axis.legend(loc='lower right')
    return _save(figure, path)


def plot_front(table: QueryTable, cost: str, path: str | Path) -> Path:
    """Plot each metric of a query table over a cost, with the Pareto front drawn out.

    The front is a staircase: its height over a budget is the best value within it. Its sub-networks are labelled with
    their width where there is room.

    Args:
        table: The table.
        cost: One of ``table.costs``.
        path: Where the picture goes; its suffix chooses the format.

    Returns:
        The path.

    Raises:
        ValueError: If the table has no such cost.
    """
    context = table.context
    title = f'{context["checkpoint"]} of {context["config"]}'
    if cost == 'latency_ms':
        threads = f'{context["threads"]} thread{"s" * (context["threads"] != 1)}'
        title += f'\n{context["device"]}, {threads}, batch of {context["batch_size"]}'
    figure, axes = _panels(table.rows(), title)
    for metric, axis in axes.items():
        _draw_front(axis, table, cost, metric)
        _draw_scales(axis, table.rows(), cost, metric, marker='o', markersize=5, linewidth=0.8, alpha=0.9)
        axis.margins(x=0.09, y=0.1)
        axis.legend(loc='lower right', framealpha=0.9)
    figure.draw_without_rendering()  # fixes the layout that the labels are placed in
    for metric, axis in axes.items():
        _label_front(axis, table, cost, metric)
    return _save(figure, path)


def _panels(subnets: Sequence[Mapping[str, float]], title: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each metric."""
    metrics = metrics_of(subnets)
    figure = Figure(figsize=(5.2 * len(metrics), 4.2), layout='constrained')
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    figure.suptitle(title, fontsize=10)
    return figure, dict(zip(metrics, axes))


def _unit(subnets: Sequence[Mapping[str, float]], cost: str) -> tuple[float, str]:
    """The divisor of a cost, and the label of the axis."""
    if cost == 'latency_ms':
        return 1, 'latency (ms)'
    return (1e9, 'multiply-adds (G)') if max(subnet[cost] for subnet in subnets) >= 1e9 else (1e6, 'multiply-adds (M)')


def _draw_scales(axis: Axes, subnets: Sequence[Mapping[str, float]], cost: str, metric: str, **style: Any) -> None:
    """A line for each scale, through its widths in order of their cost."""
    unit, label = _unit(subnets, cost)
    for scale in sorted({subnet['scale'] for subnet in subnets}, reverse=True):
        line = sorted((subnet for subnet in subnets if subnet['scale'] == scale), key=lambda subnet: subnet[cost])
        costs = [subnet[cost] / unit for subnet in line]
        axis.plot(costs, [subnet.get(metric, float('nan')) for subnet in line], label=f'scale {scale:g}', **style)
    axis.set(xlabel=label, ylabel=metric)
    axis.grid(alpha=0.3)


def _label_widths(axis: Axes, subnets: Sequence[Mapping[str, float]], metric: str) -> None:
    """Write the width next to the points of the largest scale."""
    largest, unit = max(subnet['scale'] for subnet in subnets), _unit(subnets, 'multiply_adds')[0]
    for subnet in subnets:
        if subnet['scale'] == largest and metric in subnet:
            point = (subnet['multiply_adds'] / unit, subnet[metric])
            label = f'x{_choice(subnet["width"], subnet.get("decoder_layers"))}'
            axis.annotate(label, point, textcoords='offset points', xytext=(0, 7), ha='center')


def _choice(width: float, decoder_layers: float | None) -> str:
    """A width, with the number of decoder layers if there is a choice, such as ``'0.5/3'``."""
    return f'{width:g}' if decoder_layers is None else f'{width:g}/{decoder_layers:g}'


def _draw_front(axis: Axes, table: QueryTable, cost: str, metric: str) -> None:
    unit = _unit(table.rows(), cost)[0]
    front = table.front(cost, metric)
    costs = [getattr(subnet, cost) / unit for subnet in front]
    values = [subnet.metrics[metric] for subnet in front]
    most = max(getattr(subnet, cost) for subnet in table.subnets) / unit
    style: dict[str, Any] = dict(color='0.15', linewidth=2.2, zorder=1, label='front, with widths')
    axis.step([*costs, most], [*values, values[-1]], where='post', **style)


def _label_front(axis: Axes, table: QueryTable, cost: str, metric: str) -> None:
    """Name the front's sub-networks where there is room: above the step, else below it, else not at all."""
    unit = _unit(table.rows(), cost)[0]
    pixels = axis.transData.transform(
        [(getattr(subnet, cost) / unit, subnet.metrics[metric]) for subnet in table.subnets]
    )
    taken = [Bbox.from_extents(*(point - MARKER), *(point + MARKER)) for point in pixels]
    if legend := axis.get_legend():
        taken.append(legend.get_window_extent())
    outline = [withStroke(linewidth=2.5, foreground='white')]
    for subnet in reversed(table.front(cost, metric)):
        for offset, side in (((-4, 5), 'right'), ((5, -12), 'left'), ((-4, -12), 'right'), ((5, 5), 'left')):
            text = axis.annotate(
                _choice(subnet.width, subnet.decoder_layers),
                (getattr(subnet, cost) / unit, subnet.metrics[metric]),
                textcoords='offset points',
                xytext=offset,
                ha=side,
                fontsize=8,
                path_effects=outline,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
