"""Sample the sub-networks of a training iteration: the sandwich rule with mutual scales.

The widest network runs at the full scale. The narrowest and some random widths each run at a scale drawn at random
(MutualNet, arXiv 1909.12978; the sandwich rule is from US-Nets, arXiv 1903.05134).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmmutual.layers import check_ratios
from mmmutual.number_checks import check_whole


@dataclass(frozen=True)
class Subnet:
    """A width multiplier and an input scale, each in (0, 1], and a number of decoder layers; None for all."""

    width: float
    scale: float = 1.0
    decoder_layers: int | None = None

    def __str__(self) -> str:
        """Short name, as used in logs and metric names."""
        layers = '' if self.decoder_layers is None else f'_d{self.decoder_layers}'
        return f'w{self.width:g}_s{self.scale:g}{layers}'

    @property
    def description(self) -> str:
        """Such as ``'width 0.5 at scale 0.8'`` or ``'width 0.5 at scale 0.8 with 3 decoder layers'``."""
        number = self.decoder_layers
        layers = '' if number is None else f' with {number} decoder layer{"s" * (number != 1)}'
        return f'width {self.width:g} at scale {self.scale:g}{layers}'


class SandwichSampler:
    """Draw the sub-networks of an iteration, as a pure function of (seed, iteration).

    The sampler has no state: every process draws the same sub-networks, and a resumed run draws those of an
    uninterrupted run.

    Args:
        widths: Width multipliers; the largest and the smallest are in every iteration.
        scales: Input scales; the widest network runs at the largest.
        num_subnets: Sub-networks per iteration, including the widest and the narrowest.
        seed: Seed of the run.

    Raises:
        TypeError: If ``widths``, ``scales`` or ``num_subnets`` is of the wrong type.
        ValueError: If one of them is out of range.
    """

    def __init__(self, widths: Sequence[float], scales: Sequence[float], num_subnets: int = 4, seed: int = 0) -> None:
        self.widths = check_ratios(widths, 'widths')
        self.scales = check_ratios(scales, 'scales')
        num_subnets = check_whole(num_subnets, 'num_subnets', min(2, len(self.widths)), f'for widths {self.widths}')
        self.num_subnets = num_subnets
        self.seed = seed

    def sample(self, iteration: int) -> list[Subnet]:
        """Sub-networks of an iteration (0-based), the widest first.

        The random widths lie between the widest and the narrowest and are different if there are enough of them. If
        there are none between, they are drawn from these two.
        """
        widest, narrowest = self.widths[0], self.widths[-1]
        if self.num_subnets == 1:
            return [Subnet(widest, self.scales[0])]
        rng = np.random.default_rng((self.seed, iteration))
        between = self.widths[1:-1] or self.widths
        count = self.num_subnets - 2
        drawn = list(rng.choice(between, size=min(count, len(between)), replace=False))
        drawn += list(rng.choice(between, size=count - len(drawn)))
        passes = [Subnet(float(width), float(rng.choice(self.scales))) for width in (*drawn, narrowest)]
        return [Subnet(widest, self.scales[0]), *passes]
