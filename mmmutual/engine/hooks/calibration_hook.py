"""Calibrate the batch norms during training, so that each checkpoint is ready for every width."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmmutual.layers import check_ratios
from mmmutual.number_checks import check_whole

from ..averaging import averaged_models, swap_statistics
from ..calibration import calibrate, norms_with_statistics
from ..calibration_data import calibration_loader
from ..randomness import kept_randomness
from ..unwrapped import unwrapped


@HOOKS.register_module()
class BNCalibrationHook(Hook):
    """Run ``calibrate`` on training data before each checkpoint and each validation.

    All checkpoints are therefore calibrated, including the best one and those of a run that stops early or is killed.
    The random numbers of the training do not depend on the calibration. With an ``EMAHook``, the averaged model is
    calibrated too, since checkpoints and validations use its weights. If a model has no slimmable batch norms (for
    example, it has group norms), there is nothing to calibrate; this is logged once.

    Args:
        num_batches: Batches per process.
        widths: Widths to calibrate. Defaults to all widths for which the norms store statistics: the grid that the
            model was built for, and widths from a loaded checkpoint.
        scales: Input scales, which the batches use in turn.
        last_only: Whether to calibrate at the end of the training only.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range.
    """

    priority = 'LOW'  # before CheckpointHook

    def __init__(
        self,
        num_batches: int = 100,
        widths: Sequence[float] | None = None,
        scales: Sequence[float] = (1.0,),
        last_only: bool = False,
    ) -> None:
        num_batches = check_whole(num_batches, 'num_batches', 1)
        if not isinstance(last_only, bool):
            raise TypeError(f'last_only must be True or False, but got {last_only!r}')
        self.num_batches = num_batches
        self.widths = None if widths is None else check_ratios(widths)
        self.scales = check_ratios(scales, 'scales')
        self.last_only = last_only
        self._training = False
        self._calibrated = -1  # number of training iterations before the last calibration

    def before_train(self, runner: Runner) -> None:
        """Find out whether there is anything to calibrate."""
        self._training = bool(norms_with_statistics(unwrapped(runner.model)))
        if not self._training:
            runner.logger.info(
                f'BNCalibrationHook has nothing to calibrate: {type(unwrapped(runner.model)).__name__} has no '
                'slimmable batch norm that keeps statistics'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Calibrate if the last epoch ends or a checkpoint is due."""
        if self.is_last_train_epoch(runner) or self._saves(runner, by_epoch=True):
            self._calibrate(runner, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Calibrate if the last iteration ends or a checkpoint is due."""
        if self.is_last_train_iter(runner) or self._saves(runner, by_epoch=False):
            self._calibrate(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Calibrate before a validation during training."""
        if not self.last_only:
            self._calibrate(runner, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Evaluate the averaged weights with their statistics."""
        self._swap(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Undo ``before_val_epoch``."""
        self._swap(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        """Evaluate the averaged weights with their statistics."""
        self._swap(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Undo ``before_test_epoch``."""
        self._swap(runner)

    def after_train(self, runner: Runner) -> None:
        """Calibrate after an early stop, and warn if the last checkpoint is not calibrated."""
        if self._training and self.last_only and self._calibrated != runner.iter:
            runner.logger.warning(
                f'The training stopped after {runner.iter} of {runner.max_iters} iterations: its checkpoints hold '
                'running statistics. Calibrate one with tools/misc/calibrate.py, or set last_only=False in '
                'BNCalibrationHook'
            )
        self._calibrate(runner, runner.iter)
        self._training = False

    def _saves(self, runner: Runner, by_epoch: bool) -> bool:
        """Whether a checkpoint is due."""
        if self.last_only:
            return False
        due = self.every_n_epochs if by_epoch else self.every_n_train_iters
        hooks = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.by_epoch == by_epoch)
        return any(due(runner, hook.interval, hook.save_begin) for hook in hooks)

    def _calibrate(self, runner: Runner, iterations: int) -> None:
        """Calibrate the weights after a number of iterations, unless they are already calibrated."""
        if not self._training or self._calibrated == iterations:
            return
        self._calibrated = iterations
        runner.logger.info(f'Calibrating batch norms on {self.num_batches} batches')
        models = [unwrapped(runner.model), *(average.module for average in averaged_models(runner.hooks))]
        with kept_randomness():
            for model in models:
                calibrate(model, islice(calibration_loader(runner), self.num_batches), self.widths, self.scales)

    def _swap(self, runner: Runner) -> None:
        for average in averaged_models(runner.hooks):
            swap_statistics(unwrapped(runner.model), average)
