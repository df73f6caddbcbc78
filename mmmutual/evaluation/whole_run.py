"""Detectors that are counted in a real run: they need values where meta tensors only have shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.models.detectors import DetectionTransformer, MaskFormer
from torch import nn

from mmmutual.layers import PooledStatistics, SlimBatchNorm2d, Slimmable, get_width
from mmmutual.slimming.dry_run import untouched


def needs_values(model: nn.Module) -> bool:
    """Whether a detector computes places in its features from values, as those with a transformer do."""
    return isinstance(model, (DetectionTransformer, MaskFormer))


@contextmanager
def as_it_is(model: nn.Module) -> Iterator[None]:
    """Evaluation mode at the active width for a while, in which ``nn.MultiheadAttention`` calls matrix products.

    Its fast path is one operation that no counter looks into.
    """
    slimmable = any(isinstance(module, Slimmable) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with untouched(model, get_width(model) if slimmable else 1.0):
            model.requires_grad_(False)  # the counter follows gradients of a module's inputs
            for layer in model.modules():
                if isinstance(layer, SlimBatchNorm2d):
                    layer.pooled = PooledStatistics()  # the width may have no statistics yet
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
