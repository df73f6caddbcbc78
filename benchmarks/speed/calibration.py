"""Calibrating seven widths over calibrating the widest alone, by the share of multiply-adds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mmengine.runner import Runner
from torch import nn

from mmmutual import calibrate
from mmmutual.evaluation import count_multiply_adds
from mmmutual.layers import use_width

from .batches import drawn_config, quiet
from .networks import slimmable
from .options import Options
from .table import Row
from .timing import ratios, take_turns

WIDTHS = (1.0, 0.85, 0.75, 0.65, 0.5, 0.4, 0.25)
BATCHES = 2


def measure(options: Options) -> list[Row]:
    """Load images, resize them to the benchmark's size, and calibrate."""
    config = options.config()
    config.model.backbone.widths = WIDTHS
    model = slimmable(config, options.device)
    with tempfile.TemporaryDirectory() as folder:
        data = drawn_config(Path(folder), 512, BATCHES * options.batch_size)
        loader = dict(data.val_dataloader, batch_size=options.batch_size)
        for transform in loader['dataset'].pipeline:
            if transform.type == 'Resize':
                transform.update(scale=options.size[::-1], keep_ratio=False)
        with quiet():
            batches = Runner.build_dataloader(loader)
        calls = dict(seven=lambda: calibrate(model, batches, WIDTHS), one=lambda: calibrate(model, batches, (1.0,)))
        times = take_turns(calls, options.rounds)
    share = _share(model, options.size)
    return [Row('calibrating 7 widths', tuple(ratios(times, 'seven', 'one')), 'calibrating width 1', round(share, 3))]


def _share(model: nn.Module, size: tuple[int, int]) -> float:
    """Multiply-adds of backbone and neck at all widths over those of the widest."""
    counts = []
    for width in WIDTHS:
        with use_width(model, width):
            count = count_multiply_adds(model, size)
        counts.append(count['backbone'] + count['neck'])
    return sum(counts) / counts[0]
