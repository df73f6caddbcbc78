"""The number of iterations of an epoch, before MMEngine's runner exists."""

from __future__ import annotations

import copy
import math

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from .processes import count_processes


def epoch_length(config: Config, launcher: str = 'none') -> int:
    """Count the iterations of an epoch of a config's training data; builds the data set.

    Args:
        config: A config with a ``train_dataloader``.
        launcher: The launcher of the training, whose processes share an epoch.

    Returns:
        Iterations of each process, also for a data loader that has no end.
    """
    loader = config.train_dataloader
    if loader.get('num_batch_per_epoch'):
        return loader.num_batch_per_epoch
    init_default_scope(config.get('default_scope') or 'mmdet')
    images = math.ceil(len(Runner.build_dataloader(copy.deepcopy(loader), seed=0).dataset) / count_processes(launcher))
    drops = loader.get('drop_last') or (loader.get('batch_sampler') or {}).get('drop_last')
    return images // loader.batch_size if drops else math.ceil(images / loader.batch_size)
