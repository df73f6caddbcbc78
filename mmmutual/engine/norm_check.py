"""Check that the batch norms of a model are suitable for several widths."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from torch import nn

from mmmutual.layers import SlimBatchNorm2d, Slimmable, use_width
from mmmutual.upstream import AnyBatchNorm


def check_frozen_norms(model: nn.Module, widths: Sequence[float]) -> None:
    """Reject frozen norms without statistics.

    Args:
        model: A model with the initial weights of the training, without a wrapper.
        widths: Widths to train.

    Raises:
        ValueError: If a frozen norm lacks statistics for a width.
    """
    was_training = model.training
    model.train()  # norm_eval and frozen_stages take effect in train()
    frozen = [(name, layer) for name, layer in model.named_modules() if not layer.training]
    model.train(was_training)
    for name, layer in frozen:
        if isinstance(layer, SlimBatchNorm2d):
            unready = [width for width in widths if not layer.is_ready(width)]
            if unready:
                raise ValueError(
                    f'{name} is frozen (norm_eval or frozen_stages), but has no statistics for the widths '
                    f'{unready}: set norm_eval=False and frozen_stages=-1, or start from a checkpoint '
                    'calibrated with tools/misc/calibrate.py'
                )


def check_statistics(model: nn.Module, widths: Sequence[float]) -> None:
    """Reject widths at which a model cannot be evaluated.

    Args:
        model: A model with trained weights, without a wrapper.
        widths: Widths to evaluate.

    Raises:
        ValueError: If the model does not support a width or has no statistics for it.
    """
    for width in widths:
        with use_width(model, width):
            for layer in model.modules():
                if isinstance(layer, SlimBatchNorm2d):
                    layer.check_ready()


def warn_of_mixed_statistics(model: nn.Module) -> None:
    """Warn about batch norms that mix the statistics of all widths.

    Args:
        model: A model, without a wrapper.
    """
    mixing = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, AnyBatchNorm) and not isinstance(layer, Slimmable) and layer.track_running_stats
    ]
    if mixing:
        print_log(
            f'{len(mixing)} batch norms outside the slimmable modules mix the statistics of all widths, for example '
            f"{mixing[0]}; configure them with norm_cfg=dict(type='SlimBN', widths=...)",
            logger='current',
            level=logging.WARNING,
        )
