"""Distillation of a classifier's class probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from .base import TERM, Distillation


@MODELS.register_module()
class SoftLabelDistillation(Distillation):
    """Let a narrow classifier learn the class probabilities of the widest one instead of the labels.

    US-Nets and MutualNet train in this way on ImageNet (github taoyang1122/MutualNet, ``train.py``). The loss is the
    Kullback-Leibler divergence of the teacher's from the student's class probabilities, averaged over the batch.

    Args:
        module: The module that computes the class scores (N, classes): the head of mmpretrain's ``ImageClassifier``.
        loss_weight: Factor of the loss.
    """

    def __init__(self, module: str = 'head', loss_weight: float = 1.0) -> None:
        super().__init__(module, loss_weight)

    def losses(self, labels: dict, student: Tensor, teacher: Tensor, scale: float) -> dict:
        """The divergence replaces the losses; other values that the pass logs stay."""
        divergence = F.kl_div(
            student.float().log_softmax(1), teacher.float().log_softmax(1), reduction='batchmean', log_target=True
        )
        others = {name: value for name, value in labels.items() if 'loss' not in name}
        return {TERM: self.loss_weight * divergence, **others}
