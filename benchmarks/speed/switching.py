"""Switching to another sub-network, and the first call after it."""

from __future__ import annotations

import torch

from mmmutual import set_width

from .inference import detection
from .networks import slimmable
from .options import Options
from .table import Row
from .timing import timed

TARGET_MS = 2.0
TARGET_FIRST_CALL = 1.3
STEADY_CALLS = 2


@torch.no_grad()
def measure(options: Options) -> list[Row]:
    """Switch between the widest and a narrow width."""
    model = slimmable(options.config(), options.device)
    detect = detection(model, torch.randn(1, 3, *options.size, device=options.device))
    pair = options.widths[0], options.widths[len(options.widths) // 2]
    switches, first_calls = [], {width: [] for width in pair}
    for index in range(options.rounds + 1):
        for width in pair:
            switch = timed(lambda width=width: set_width(model, width))
            first, *steady = (timed(detect) for _ in range(1 + STEADY_CALLS))
            if index > 0:  # the first round warms up
                switches.append(switch)
                first_calls[width].append(first * STEADY_CALLS / sum(steady))
    return [
        Row('set_width on the detector', tuple(switches), target=TARGET_MS, unit=' ms'),
        *(
            Row(f'first call after switching to width {width:g}', tuple(values), 'later calls', TARGET_FIRST_CALL)
            for width, values in first_calls.items()
        ),
    ]
