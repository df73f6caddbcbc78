"""The options of all parts of the benchmark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from .networks import without_pretraining

CONFIGS = Path(__file__).parents[2] / 'configs'


@dataclass(frozen=True)
class Options:
    """Options of the measurements.

    Attributes:
        config_path: Config of a slimmable detector.
        device: ``'cpu'`` or ``'cuda'``.
        size: Height and width of the images in pixels.
        widths: The sub-networks, the widest first.
        rounds: Timed rounds.
        batch_size: Images in a training batch.
        threads: Number of PyTorch's threads.
        until: As ``take_turns``.
    """

    config_path: Path
    device: str
    size: tuple[int, int]
    widths: tuple[float, ...]
    rounds: int
    batch_size: int
    threads: int
    until: float = math.inf

    def config(self) -> Config:
        """The detector's config, to be built with random weights."""
        return without_pretraining(Config.fromfile(self.config_path))
