"""Calibrates the batch norms at the end of training, so that the last checkpoint is ready for every width."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from mmmutual.layers import check_ratios

from ..calibration import calibrate


@HOOKS.register_module()
class BNCalibrationHook(Hook):
    """Runs :func:`~mmmutual.engine.calibrate` on training data before the last checkpoint is written.

    Under an ``EMAHook`` the averaged model, whose weights the checkpoint holds, is calibrated as well.

    Args:
        num_batches: Batches per process.
        widths: Widths to calibrate; by default those the norms were built for.
        scales: Input scales the batches cycle through.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range.
    """

    priority = 'LOW'  # before CheckpointHook

    def __init__(
        self, num_batches: int = 100, widths: Sequence[float] | None = None, scales: Sequence[float] = (1.0,)
    ) -> None:
        if isinstance(num_batches, bool) or not isinstance(num_batches, int):
            raise TypeError(f'num_batches must be a whole number, but got {num_batches!r}')
        if num_batches < 1:
            raise ValueError(f'num_batches must be at least 1, but got {num_batches}')
        self.num_batches = num_batches
        self.widths = None if widths is None else check_ratios(widths)
        self.scales = check_ratios(scales, 'scales')

    def after_train_epoch(self, runner) -> None:
        """Calibrate after the last epoch."""
        if not isinstance(runner.train_loop, IterBasedTrainLoop) and runner.epoch + 1 == runner.max_epochs:
            self._calibrate(runner)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Calibrate after the last iteration of a training by iterations."""
        if isinstance(runner.train_loop, IterBasedTrainLoop) and runner.iter + 1 == runner.max_iters:
            self._calibrate(runner)

    def _calibrate(self, runner) -> None:
        runner.logger.info(f'Calibrating batch norms on {self.num_batches} batches')
        models = [runner.model.module if is_model_wrapper(runner.model) else runner.model]
        models += [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in models:
            calibrate(model, islice(runner.train_dataloader, self.num_batches), self.widths, self.scales)
