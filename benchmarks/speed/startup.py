"""Importing mmmutual over importing mmdet.models, which it extends."""

from __future__ import annotations

import subprocess
import sys

from .table import Row
from .timing import quartiles, ratios, take_turns

TARGET = 1.05


def measure(rounds: int) -> list[Row]:
    """Time each import in a separate process."""
    times = take_turns({name: lambda name=name: _import(name) for name in ('mmmutual', 'mmdet.models')}, rounds)
    reference = f'import mmdet.models: {quartiles(times["mmdet.models"])[1] / 1e3:.1f} s'
    return [Row('import mmmutual', tuple(ratios(times, 'mmmutual', 'mmdet.models')), reference, TARGET)]


def _import(module: str) -> None:
    subprocess.run([sys.executable, '-c', f'import {module}'], check=True, capture_output=True)
