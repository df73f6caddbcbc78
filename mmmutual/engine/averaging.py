"""Averaged models (EMA) of a network whose widths receive their statistics one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from torch import nn

from mmmutual.layers import SlimBatchNorm2d
from mmmutual.layers.batch_norm import widths_in


def averaged_models(hooks: Iterable[object]) -> list[BaseAveragedModel]:
    """The averaged models that a runner's hooks keep."""
    return [hook.ema_model for hook in hooks if isinstance(hook, EMAHook)]


@torch.no_grad()
def start_averages(model: nn.Module, average: BaseAveragedModel, widths: Iterable[float]) -> None:
    """Add the new widths of a model to its averaged model, before the averaged model is updated.

    With ``update_buffers``, the statistics of a width are averaged from the first iteration that trains the width.
    MMEngine copies all buffers in the first iteration, but never copies the numbers of batches afterwards, which mark
    that a width has statistics. MMEngine pairs the buffers of the two models by position, so widths are added to the
    averaged model in the same order as to the model.

    Args:
        model: The model in training.
        average: Its averaged model.
        widths: The widths that were trained in the iteration.
    """
    added = False
    for norm, averaged in _pairs(model, average.module):
        for width in widths_in(norm.state_dict(), 'running_mean'):  # in the order in which they were added to the model
            if width not in averaged.widths:
                averaged.add_width(width)
                added = True
        for width in widths if average.update_buffers else ():
            if norm.is_ready(width) and not averaged.is_ready(width):
                for target, source in zip(averaged.statistics(width), norm.statistics(width)):
                    if target is not None and source is not None:
                        target.copy_(source)
    if added and average.update_buffers:
        average.avg_parameters = average.module.state_dict()


@torch.no_grad()
def swap_statistics(model: nn.Module, average: BaseAveragedModel) -> None:
    """Exchange the batch-norm statistics of a model and its averaged model.

    ``EMAHook`` exchanges the parameters for an evaluation. Without ``update_buffers`` it does not exchange the
    statistics, which belong to these parameters after the averaged model is calibrated.

    Args:
        model: The model in training.
        average: Its averaged model.
    """
    if average.update_buffers:
        return
    for norm, averaged in _pairs(model, average.module):
        for width in norm.widths:
            for ours, theirs in zip(norm.statistics(width), averaged.statistics(width)):
                if ours is not None and theirs is not None:
                    kept = ours.clone()
                    ours.copy_(theirs)
                    theirs.copy_(kept)


def _pairs(model: nn.Module, other: nn.Module) -> Iterable[tuple[SlimBatchNorm2d, SlimBatchNorm2d]]:
    """The slimmable batch norms with statistics of two copies of a model."""
    norms = ([layer for layer in copy.modules() if isinstance(layer, SlimBatchNorm2d)] for copy in (model, other))
    return [(ours, theirs) for ours, theirs in zip(*norms) if ours.track_running_stats]
