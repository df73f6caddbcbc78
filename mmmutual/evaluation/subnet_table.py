"""The table of sub-networks: width, input scale, multiply-adds and metrics of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terminaltables import AsciiTable

TITLES = {
    'decoder_layers': 'decoder layers',
    'multiply_adds': 'multiply-adds',
    'latency_ms': 'ms (median)',
    'latency_p90_ms': 'ms (p90)',
}
COUNTS = ('multiply_adds', 'parameters')
METRICS = {'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP', 'top1': 'top-1 (%)'}


def main_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that tables and plots show.

    Args:
        metrics: Metrics under their full names, such as ``coco/bbox_mAP``.

    Returns:
        ``'box mAP'``, ``'mask mAP'`` and ``'top-1 (%)'``, of several data sets each with the set's name before it, such
        as ``'night box mAP'``; without those, all metrics under their own names.

    Examples:
        >>> main_metrics({'day/coco/bbox_mAP': 0.4, 'night/coco/bbox_mAP': 0.3, 'night/coco/bbox_mAP_50': 0.5})
        {'day box mAP': 0.4, 'night box mAP': 0.3}
    """
    chosen = {key: METRICS[key.split('/')[-1]] for key in metrics if key.split('/')[-1] in METRICS}
    sets = {key: key.split('/')[:-1] for key in chosen}
    while len({tuple(parts[-1:]) for parts in sets.values()}) == 1 and any(sets.values()):
        sets = {key: parts[:-1] for key, parts in sets.items()}  # what all have in common says nothing
    named = {' '.join(['/'.join(sets[key]), title]).strip(): metrics[key] for key, title in chosen.items()}
    return named or dict(metrics)


def format_table(rows: Sequence[Mapping[str, float]]) -> str:
    """Format rows as a table for the terminal.

    Args:
        rows: One mapping for each sub-network: ``width``, ``scale``, counts such as ``multiply_adds`` (printed in G,
            billions, or in M, millions), latencies in milliseconds, and metrics. Texts are printed as they are, what a
            row lacks as ``-``.

    Returns:
        The lines of the table.
    """
    if not rows:
        return 'no sub-network was evaluated'
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[TITLES.get(key, key) for key in keys]]
    lines += [[_format(key, row.get(key)) for key in keys] for row in rows]
    table = AsciiTable(lines)
    table.justify_columns = {column: 'right' for column in range(len(keys))}
    return table.table


def format_count(value: float) -> str:
    """A count in G (billions), M (millions), k (thousands) or in full."""
    if value >= 1e9:
        return f'{value / 1e9:.2f} G'
    if value >= 1e6:
        return f'{value / 1e6:.1f} M'
    return f'{value / 1e3:.0f} k' if value >= 1e4 else f'{value:g}'


def _format(key: str, value: float | str | None) -> str:
    if value is None:
        return '-'
    if isinstance(value, str):
        return value
    if key in ('width', 'scale', 'decoder_layers'):
        return f'{value:g}'
    if key in COUNTS:
        return format_count(value)
    return f'{value:.1f}' if key.endswith('_ms') else f'{value:.3f}'
