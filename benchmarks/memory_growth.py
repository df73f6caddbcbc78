"""Measure the growth of memory: python -m benchmarks.memory_growth [--iterations 2000] [--switches 500].

Trains on tiny shapes images for many mutual iterations, then switches the width of an inferencer many times. Fits a
line through the resident memory of the process after each iteration or switch, without the first quarter, in which
allocators fill their pools.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import psutil
from mmdet.utils import register_all_modules
from mmengine.hooks import Hook

from mmmutual.inference import AdaptiveInferencer
from tests.support.tiny import (  # the tests' tiny data and config
    SIZE,
    build_runner,
    draw_tiny,
    tiny_config,
    without_validation,
)

ROOT = Path(__file__).parents[1]


class Memory(Hook):
    """Resident memory of the process over time, in MiB."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.process, self.values = psutil.Process(), []

    def note(self) -> None:
        """Record it once."""
        self.values.append(self.process.memory_info().rss / 2**20)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Record it after each iteration."""
        self.note()

    def report(self, what: str) -> str:
        """The slope, with the standard error of the fit."""
        values = np.array(self.values[len(self.values) // 4 :])
        steps = np.arange(len(values))
        (slope, _), ((variance, _), _) = np.polyfit(steps, values, 1, cov=True)
        return (
            f'{what}: {len(self.values)} steps, {values[0]:.1f} MiB to {values[-1]:.1f} MiB, highest '
            f'{values.max():.1f}; slope {1000 * slope:+.3f} +- {2000 * variance**0.5:.3f} MiB in 1000 steps'
        )


def main() -> None:
    """Train, switch, report."""
    parser = argparse.ArgumentParser(description='Fit the growth of memory in training and inference')
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument('--switches', type=int, default=500)
    args = parser.parse_args()
    register_all_modules(init_default_scope=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        config = without_validation(tiny_config(draw_tiny(folder / 'shapes'), folder / 'work'))
        config.dump(folder / 'config.py')
        config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=args.iterations, val_interval=10**9)
        config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        config.default_hooks.checkpoint.update(by_epoch=False, interval=10**9)
        training = Memory()
        config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=2))
        runner = build_runner(config)
        runner.register_hook(training)
        runner.train()
        print(training.report('mutual iterations'), flush=True)
        print(inference(folder, args.switches).report('width switches'))


def inference(folder: Path, switches: int) -> Memory:
    """Detect in one image at each width in turn."""
    memory = Memory()
    inferencer = AdaptiveInferencer(
        folder / 'config.py', next((folder / 'work').glob('iter_*.pth')), device='cpu', show_progress=False
    )
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for index in range(switches):
        inferencer(image, width=(1.0, 0.75, 0.5, 0.25)[index % 4], scale=(1.0, 0.5)[index % 2])
        memory.note()
    return memory


if __name__ == '__main__':
    main()
