"""Faults for the tests of reliability: a process that dies in the middle of an iteration."""

import os
import signal

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook


@HOOKS.register_module()
class Die(Hook):
    """Kills the process of a rank before a training iteration."""

    def __init__(self, rank: int, iteration: int) -> None:
        self.moment = rank, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if (get_rank(), runner.iter) == self.moment:
            print('the process dies now', flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
