"""Distillation of a detector's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from .base import TERM, Distillation

Features: TypeAlias = Tensor | Sequence[Tensor]


@MODELS.register_module()
class PearsonDistillation(Distillation):
    """Let the neck's features of a narrow detector imitate those of the widest one, in addition to the labels.

    The loss is 1 minus Pearson's correlation of each channel over batch and pixels, averaged over channels and levels
    (PKD, arXiv 2207.02039). It compares the patterns of activations, not their magnitudes, so levels and channels have
    equal weight. The features of the widest network are resized to the scale of the narrow pass.

    Args:
        module: The module that computes the features, (N, C, H, W) or levels of them: the neck of mmdet's detectors.
        loss_weight: Factor of the loss.
    """

    def __init__(self, module: str = 'neck', loss_weight: float = 1.0) -> None:
        super().__init__(module, loss_weight)

    def losses(self, labels: dict, student: Features, teacher: Features, scale: float) -> dict:
        """The loss of the correlation, in addition to the losses from the labels."""
        student, teacher = ([maps] if isinstance(maps, Tensor) else maps for maps in (student, teacher))
        levels = [_decorrelation(*_aligned(ours, theirs, scale)) for ours, theirs in zip(student, teacher)]
        return {**labels, TERM: self.loss_weight * torch.stack(levels).mean()}


def _aligned(student: Tensor, teacher: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The common pixels and channels: a slimmable neck has the first channels of the teacher; padding may differ."""
    teacher = teacher[:, : student.size(1)].float()
    if scale != 1.0:
        size = [max(1, round(side * scale)) for side in teacher.shape[2:]]
        teacher = F.interpolate(teacher, size=size, mode='bilinear', antialias=True)
    height, width = (min(sides) for sides in zip(student.shape[2:], teacher.shape[2:]))
    return student[..., :height, :width].float(), teacher[..., :height, :width]


def _decorrelation(student: Tensor, teacher: Tensor) -> Tensor:
    """1 minus the correlation of two maps (N, C, H, W), averaged over the channels."""
    student, teacher = (_centered(features) for features in (student, teacher))
    return 1 - F.cosine_similarity(student, teacher).mean()


def _centered(features: Tensor) -> Tensor:
    """The values of each channel without their mean, (C, N H W)."""
    flat = features.transpose(0, 1).flatten(1)
    return flat - flat.mean(1, keepdim=True)
