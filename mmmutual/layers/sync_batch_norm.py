"""Slimmable batch norm whose batch statistics are those of all GPUs."""

from __future__ import annotations

import logging

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor

from mmmutual.upstream import AnyBatchNorm, sync_batch_norm

from .batch_norm import SlimBatchNorm2d


class SyncBatchNorm:
    """A name only: ``init_cfg`` finds layers by the names of their direct bases."""


@MODELS.register_module('SlimSyncBN')
class SlimSyncBatchNorm2d(SlimBatchNorm2d, AnyBatchNorm, SyncBatchNorm):
    """``SlimBatchNorm2d`` that normalises by the statistics of the whole distributed batch.

    It is not a subclass of ``nn.SyncBatchNorm``, because MMEngine would turn it into a stock batch norm on one device.
    In one process, and on devices without torch's synchronised batch norm (all but GPUs), it is ``SlimBatchNorm2d``.
    """

    _warned = False

    def _normalize(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor, bias: Tensor, momentum: float
    ) -> Tensor:
        world_size = get_world_size()
        if world_size == 1:
            return super()._normalize(x, mean, var, weight, bias, momentum)
        if not x.is_cuda:
            if not SlimSyncBatchNorm2d._warned:
                print_log(
                    'SlimSyncBN normalises by the statistics of each process alone: torch synchronises batch norm on '
                    f'GPUs only, and the input is on {x.device.type}',
                    logger='current',
                    level=logging.WARNING,
                )
                SlimSyncBatchNorm2d._warned = True
            return super()._normalize(x, mean, var, weight, bias, momentum)
        group = torch.distributed.group.WORLD
        return sync_batch_norm(x.contiguous(), weight, bias, mean, var, self.eps, momentum, group, world_size)
