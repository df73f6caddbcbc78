"""The files an evaluation leaves: the table of sub-networks as JSON, and its plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .plot import plot_subnets


def write_report(rows: Sequence[Mapping[str, float]], folder: str | Path) -> dict[str, Path]:
    """Write ``subnets.json`` and, if multiply-adds are known, ``subnets.png``.

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
    if rows and 'multiply_adds' in rows[0]:
        paths['plot'] = plot_subnets(rows, folder / 'subnets.png')
    return paths
