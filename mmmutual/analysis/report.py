"""The files that evaluations leave: tables as JSON or CSV, and their plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .plot import metrics_of, plot_front, plot_subnets
from .query_table import QueryTable

FRONTS = {'multiply_adds': 'front_multiply_adds.png', 'latency_ms': 'front_latency.png'}


def write_report(rows: Sequence[Mapping[str, float]], folder: str | Path) -> dict[str, Path]:
    """Write ``subnets.json`` and, if multiply-adds and a metric are known, ``subnets.png``.

    Args:
        rows: Sub-networks as :func:`~mmmutual.analysis.format_table` takes them.
        folder: Where the files go.

    Returns:
        The paths under ``'table'`` and ``'plot'``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {'table': folder / 'subnets.json'}
    paths['table'].write_text(json.dumps(list(map(dict, rows)), indent=1))
    if metrics_of(rows) and 'multiply_adds' in rows[0]:
        paths['plot'] = plot_subnets(rows, folder / 'subnets.png')
    return paths


def write_query_report(table: QueryTable, path: str | Path) -> list[Path]:
    """Write a query table as CSV and its fronts as plots, beside its JSON file.

    Args:
        table: The table.
        path: The JSON file; the CSV has its name, the plots are ``front_multiply_adds.png`` and ``front_latency.png``.

    Returns:
        The paths.
    """
    path = Path(path)
    table.write_csv(path.with_suffix('.csv'))
    return [path.with_suffix('.csv'), *(plot_front(table, cost, path.with_name(FRONTS[cost])) for cost in table.costs)]
