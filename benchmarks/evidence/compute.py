"""The compute of a training, from the multiply-adds of its passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.config import Config

from mmmutual.config import build_model, make_mutual
from mmmutual.evaluation import count_multiply_adds
from mmmutual.layers import set_width

PASSES = 4
Costs = Mapping[tuple[float, float], float]  # multiply-adds of a width and a scale over those of the stock detector


def cost_of_passes(widths: Sequence[float], scales: Sequence[float], costs: Costs, passes: int = PASSES) -> float:
    """The mean compute of a mutual iteration, in iterations of the stock detector.

    Args:
        widths: The widths to train, largest first.
        scales: The scales to train, largest first.
        costs: Those of the widths and scales.
        passes: Passes of an iteration: the widest, the narrowest, and random ones between.
    """
    mean = {width: float(np.mean([costs[width, scale] for scale in scales])) for width in widths}
    between = float(np.mean([mean[width] for width in widths[1:-1] or widths]))
    return 1 + mean[widths[-1]] + (passes - 2) * between


def count_costs(
    config: Config, widths: Sequence[float], scales: Sequence[float], scope: str, size: tuple[int, int]
) -> dict[tuple[float, float], float]:
    """The multiply-adds of each width and scale over those of the stock detector.

    Args:
        config: Config of the stock detector.
        widths: Width multipliers with 1.0.
        scales: Input scales with 1.0.
        scope: Part of the detector that is slimmable.
        size: Height and width of an image at full scale.
    """
    model = build_model(make_mutual(config, widths, scales, scope))
    counts = {}
    for width in widths:
        set_width(model, width)
        for scale in scales:
            height, breadth = (round(side * scale) for side in size)
            counts[width, scale] = count_multiply_adds(model, (height, breadth))['total']
    return {subnet: count / counts[1.0, 1.0] for subnet, count in counts.items()}
