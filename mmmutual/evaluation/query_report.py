"""The files next to a query table: CSV, and a plot of the front for each cost."""

from __future__ import annotations

from pathlib import Path

from .plotting import plot_front
from .query_table import QueryTable

FRONTS = {'multiply_adds': 'front_multiply_adds.png', 'latency_ms': 'front_latency.png'}


def write_query_report(table: QueryTable, path: str | Path) -> list[Path]:
    """Write a query table as CSV and its fronts as plots, next to its JSON file.

    Args:
        table: The table.
        path: The JSON file; the CSV has its name, the plots are ``front_multiply_adds.png`` and ``front_latency.png``.

    Returns:
        The paths.
    """
    path = Path(path)
    table.write_csv(path.with_suffix('.csv'))
    return [path.with_suffix('.csv'), *(plot_front(table, cost, path.with_name(FRONTS[cost])) for cost in table.costs)]
