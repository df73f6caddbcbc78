"""Make random numbers independent of a resume: MMEngine's resume does not restore random states."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import get_worker_info

from ..randomness import seed_everything

LOADING, TRAINING = 0, 1


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed python, numpy and torch from (seed, rank, iteration) before each load and each training step.

    A resumed run therefore draws the augmentations, RoI samples and dropout masks of an uninterrupted run, and random
    states need not be stored. Workers that load data are seeded from their number and the iteration when they start.
    MMEngine seeds workers from their number only, so that workers that restart each epoch would draw the same
    augmentations in each epoch.

    The resume is exact for loading in the main process and for workers that restart each epoch, with these exceptions:

    - Workers with ``persistent_workers=True`` have separate random states, which a resume cannot restore.
    - All workers of an iteration loop start once, so their random states cannot be restored either.
    - Upstream's iteration loop (mmengine 0.10.7) loads the batches that it skips, so that the first batch after a
      resume is augmented differently.
    """

    priority = 'ABOVE_NORMAL'  # hooks of normal priority that draw random numbers draw the same ones after a resume

    def before_train(self, runner: Runner) -> None:
        """Seed the loading of the first batch, and set the seeding of workers."""
        loader = runner.train_dataloader
        workers = getattr(loader, 'num_workers', 0)
        if workers and getattr(loader.worker_init_fn, 'func', None) is not seed_worker:
            loader.worker_init_fn = partial(seed_worker, init_fn=loader.worker_init_fn)
        if getattr(loader, 'persistent_workers', False):
            runner.logger.warning(
                'train_dataloader.persistent_workers=True: a resume cannot restore the random states of these workers, '
                'so a resumed run draws other augmentations than the uninterrupted one. Set it to False for an exact '
                'resume'
            )
        _seed(runner.seed, runner.iter, LOADING)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the loading of the epoch's first batch, since a validation may have drawn random numbers."""
        _seed(runner.seed, runner.iter, LOADING)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the training step."""
        _seed(runner.seed, runner.iter, TRAINING)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Seed the loading of the next batch."""
        _seed(runner.seed, runner.iter + 1, LOADING)


def seed_worker(worker_id: int, init_fn: Callable[[int], None] | None) -> None:
    """Seed a starting worker from torch's seed for it, which the main process drew for this start.

    Args:
        worker_id: Number of the worker.
        init_fn: The data loader's former ``worker_init_fn``, called first.
    """
    if init_fn is not None:
        init_fn(worker_id)
    seed_everything(int(np.random.SeedSequence(get_worker_info().seed).generate_state(1)[0]))


def _seed(seed: int, iteration: int, purpose: int) -> None:
    seed_everything(int(np.random.SeedSequence((seed, get_rank(), iteration, purpose)).generate_state(1)[0]))
