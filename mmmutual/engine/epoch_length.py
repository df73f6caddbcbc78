"""The number of iterations of an epoch, before MMEngine's runner exists."""

from __future__ import annotations

import copy
import math
import os

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

PROCESSES = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')  # set by the launchers


def epoch_length(config: Config, launcher: str = 'none') -> int:
    """Count the iterations of an epoch of a config's training data; builds the data set.

    Args:
        config: A config with a ``train_dataloader``.
        launcher: The launcher of the training, whose processes share an epoch.

    Returns:
        Iterations of each process, also for a data loader that has no end.
    """
    init_default_scope(config.get('default_scope') or 'mmdet')
    settings = copy.deepcopy(config.train_dataloader)
    images = len(Runner.build_dataloader(settings, seed=0).dataset)
    processes = int(os.environ.get(PROCESSES.get(launcher, ''), 1))
    return math.ceil(images / (config.train_dataloader.batch_size * processes))
