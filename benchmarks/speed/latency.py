"""The latency of the detector at each width and scale."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from terminaltables import AsciiTable

from mmmutual.evaluation import Latency, measure_latency
from mmmutual.layers import set_width

from .inference import detection
from .iterations import SCALES
from .networks import slimmable
from .options import Options

Grid = dict[tuple[float, float], Latency]
WARMUP = 3


@torch.no_grad()
def measure(options: Options) -> Grid:
    """Detect in one image of each scale.

    Args:
        options: Their rounds are the timed calls of each sub-network.

    Returns:
        The latencies by width and scale.
    """
    model = slimmable(options.config(), options.device)
    sizes = {scale: [max(32, round(side * scale / 32) * 32) for side in options.size] for scale in SCALES}
    calls = {scale: detection(model, torch.randn(1, 3, *size, device=options.device)) for scale, size in sizes.items()}
    return measure_latency(
        lambda key, index: calls[key[1]](),
        list(product(options.widths, SCALES)),
        WARMUP,
        options.rounds,
        prepare=lambda key: set_width(model, key[0]),
    )


def as_grid(grid: Mapping[tuple[float, float], Latency]) -> str:
    """A table for the terminal: a line for each width, a column for each scale."""
    widths, scales = (list(dict.fromkeys(values)) for values in zip(*grid))
    header = ['median ms (90 %)', *(f'scale {scale:g}' for scale in scales)]
    lines = [[f'width {width:g}', *(_cell(grid[width, scale]) for scale in scales)] for width in widths]
    return AsciiTable([header, *lines]).table


def as_dicts(grid: Mapping[tuple[float, float], Latency]) -> list[dict[str, float]]:
    """For JSON: a dict for each sub-network."""
    return [
        dict(width=width, scale=scale, median_ms=latency.median_ms, p90_ms=latency.p90_ms)
        for (width, scale), latency in grid.items()
    ]


def _cell(latency: Latency) -> str:
    return f'{latency.median_ms:.1f} ({latency.p90_ms:.1f})'
