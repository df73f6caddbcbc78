"""The accuracy-compute plot: mAP over multiply-adds, one line for each input scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def plot_subnets(rows: Sequence[Mapping[str, float]], path: str | Path, title: str = '') -> Path:
    """Plot each metric of a table of sub-networks over multiply-adds.

    Args:
        rows: Sub-networks with ``width``, ``scale``, ``multiply_adds`` and metrics, as
            :func:`~mmmutual.analysis.format_table` takes them.
        path: Where the picture goes; its suffix chooses the format.
        title: Printed above the plot.

    Returns:
        The path.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError('there is no sub-network to plot')
    metrics = [key for key in rows[0] if key not in ('width', 'scale', 'multiply_adds')]
    figure = Figure(figsize=(5.2 * len(metrics), 4), layout='constrained')
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics):
        for scale in sorted({row['scale'] for row in rows}, reverse=True):
            line = sorted((row for row in rows if row['scale'] == scale), key=lambda row: row['multiply_adds'])
            counts = [row['multiply_adds'] / 1e9 for row in line]
            axis.plot(counts, [row[metric] for row in line], marker='o', label=f'scale {scale:g}')
        _label_widths(axis, rows, metric)
        axis.set(xlabel='multiply-adds (G)', ylabel=metric)
        axis.margins(x=0.08, y=0.12)  # room for the labels
        axis.grid(alpha=0.3)
        axis.legend(loc='lower right')
    figure.suptitle(title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _label_widths(axis, rows: Sequence[Mapping[str, float]], metric: str) -> None:
    """Write the width beside the points of the largest scale."""
    largest = max(row['scale'] for row in rows)
    for row in rows:
        if row['scale'] == largest:
            point = (row['multiply_adds'] / 1e9, row[metric])
            axis.annotate(f'x{row["width"]:g}', point, textcoords='offset points', xytext=(0, 7), ha='center')
