"""Counting the multiply-adds of a grid of sub-networks."""

from __future__ import annotations

from mmmutual.evaluation import count_grid

from .networks import slimmable
from .options import Options
from .table import Row
from .timing import timed

WIDTHS = (1.0, 0.9, 0.75, 0.6, 0.5, 0.4, 0.25)
SCALES = (1.0, 0.8, 0.6, 0.4)
SIZE = (600, 1000)
TARGET_S = 60.0


def measure(options: Options) -> list[Row]:
    """Seven widths at four scales of 1000 x 600 pixels."""
    config = options.config()
    config.model.backbone.widths = WIDTHS
    model = slimmable(config, 'cpu')
    sizes = [tuple(round(side * scale) for side in SIZE) for scale in SCALES]
    seconds = timed(lambda: count_grid(model, WIDTHS, sizes)) / 1e3
    return [Row('counting a grid of 7 widths and 4 scales', (seconds,), target=TARGET_S, unit=' s')]
