"""Randomness that survives a resume: MMEngine's resume restores no random state."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

LOADING, TRAINING = 0, 1


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds python, numpy and torch from (seed, rank, iteration) before each load and each training step.

    So a run that stops and resumes draws the augmentations, RoI samples and dropout masks that the uninterrupted run
    would have drawn, and nothing needs to be stored. Exact for loading in the main process and for workers that restart
    each epoch, which MMEngine seeds by their number. Workers with ``persistent_workers=True`` keep random states of
    their own, which a resume cannot restore; and upstream's iteration loop (mmengine 0.10.7) loads the batches it
    skips, so that the first batch after a resume is augmented otherwise there.
    """

    priority = 'ABOVE_NORMAL'  # after the passes of MutualLearningHook

    def before_train(self, runner) -> None:
        """Seed the loading of the first batch."""
        _seed(runner.seed, runner.iter, LOADING)

    def before_train_epoch(self, runner) -> None:
        """Seed the loading of the epoch's first batch, whatever a validation drew before it."""
        _seed(runner.seed, runner.iter, LOADING)

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the training step."""
        _seed(runner.seed, runner.iter, TRAINING)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Seed the loading of the next batch."""
        _seed(runner.seed, runner.iter + 1, LOADING)


def _seed(seed: int, iteration: int, purpose: int) -> None:
    state = np.random.SeedSequence((seed, get_rank(), iteration, purpose)).generate_state(1)[0]
    random.seed(int(state))
    np.random.seed(state)
    torch.manual_seed(int(state))
