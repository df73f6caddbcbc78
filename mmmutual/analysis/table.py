"""The table of sub-networks: width, input scale, multiply-adds and metrics of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terminaltables import AsciiTable

TITLES = {'width': 'width', 'scale': 'scale', 'multiply_adds': 'multiply-adds'}
METRICS = {'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP'}


def main_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Box and mask mAP as ``'box mAP'`` and ``'mask mAP'``; without those, all metrics under their own names."""
    chosen = {METRICS[key.split('/')[-1]]: value for key, value in metrics.items() if key.split('/')[-1] in METRICS}
    return chosen or dict(metrics)


def format_table(rows: Sequence[Mapping[str, float]]) -> str:
    """Format rows as a table for the terminal.

    Args:
        rows: One mapping for each sub-network, all with the same keys: ``width``, ``scale``, ``multiply_adds``
            (a count; printed in G, billions, or in M, millions) and metrics.

    Returns:
        The lines of the table.
    """
    if not rows:
        return 'no sub-network was evaluated'
    keys = list(rows[0])
    lines = [[TITLES.get(key, key) for key in keys]]
    lines += [[_format(key, row[key]) for key in keys] for row in rows]
    table = AsciiTable(lines)
    table.justify_columns = {column: 'right' for column in range(len(keys))}
    return table.table


def _format(key: str, value: float) -> str:
    if key in ('width', 'scale'):
        return f'{value:g}'
    if key == 'multiply_adds':
        return f'{value / 1e9:.2f} G' if value >= 1e9 else f'{value / 1e6:.1f} M'
    return f'{value:.3f}'
