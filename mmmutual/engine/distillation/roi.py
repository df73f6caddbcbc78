"""Distillation of a two-stage detector's predictions for the regions of interest (RoIs) of the widest pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import BBoxHead, MultiInstanceBBoxHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.number_checks import check_positive
from mmmutual.upstream import BoxHeadCall, watched_box_head

from .base import TERM, Distillation

Size = tuple[int, int]  # height, width in pixels


@dataclass
class RoIPass:
    """The RoIs of a pass and their predictions.

    Args:
        image_sizes: Height and width in pixels of each image without padding.
        calls: The calls of the box head: one, or one for each stage of a cascade.
    """

    image_sizes: list[Size] = field(default_factory=list)
    calls: list[BoxHeadCall] = field(default_factory=list)


@dataclass(frozen=True)
class RoITeacher:
    """The RoIs of the widest pass and their predictions, detached; lists have an item for each stage.

    Args:
        image_sizes: As in ``RoIPass``.
        rois: (R, 5) image index, x1, y1, x2, y2 in pixels.
        predictions: Class scores (R, classes + 1), the background last, and box deltas (R, 4) or (R, 4 classes).
    """

    image_sizes: list[Size]
    rois: list[Tensor]
    predictions: list[tuple[Tensor, Tensor]]


@MODELS.register_module()
class RoIDistillation(Distillation):
    """Let the box head of a narrow two-stage detector imitate that of the widest one, in addition to the labels.

    The narrow pass predicts classes and boxes a second time, for the RoIs that the widest pass has sampled, so that
    both predict for the same regions. The loss is the Kullback-Leibler divergence of the teacher's from the student's
    class probabilities, plus the smooth L1 distance of the box deltas weighted with the teacher's probability of their
    class. Both are averaged over the RoIs, as mmdet averages the losses from the labels. Box deltas are relative to
    the size of the RoI, so they are comparable at any input scale. A cascade adds up its stages.

    The mask head is not distilled: it would run a second time too, and it is the most expensive part of a narrow pass.

    Args:
        temperature: Divides the class scores. Above 1, the classes that the teacher finds less probable count more.
        loss_weight: Factor of the loss.

    Raises:
        TypeError: If ``temperature`` is not a number.
        ValueError: If ``temperature`` or ``loss_weight`` is not above 0.
    """

    def __init__(self, temperature: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__('roi_head', loss_weight)
        self.temperature = check_positive(temperature, 'temperature')

    def find_module(self, model: nn.Module) -> nn.Module:
        """The RoI head.

        Args:
            model: A model, without a wrapper.

        Returns:
            A part of the model.

        Raises:
            ValueError: If the model is not a two-stage detector, or if its class scores are not those of a softmax.
        """
        roi_head = getattr(model, 'roi_head', None)
        if roi_head is None:
            raise ValueError(
                f'RoIDistillation needs a two-stage detector, but {type(model).__name__} has no roi_head: use '
                "dict(type='PearsonDistillation')"
            )
        boxes = getattr(roi_head, 'bbox_head', None)
        heads = list(boxes) if isinstance(boxes, nn.ModuleList) else [boxes]
        wrong = sorted({type(head).__name__ for head in heads if not _is_supported(head)})
        if wrong:
            raise ValueError(
                'RoIDistillation compares the class probabilities of a softmax and boxes, but the roi_head of '
                f"{type(model).__name__} has {wrong} with other predictions: use dict(type='PearsonDistillation')"
            )
        return roi_head

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[list[RoIPass]]:
        """Collect the calls of the box head in a pass, with the sizes of the images.

        Args:
            model: A model, without a wrapper.

        Yields:
            A list of one pass.

        Raises:
            ValueError: As ``find_module``.
        """
        found = RoIPass()

        def remember_sizes(module: nn.Module, args: tuple, kwargs: dict) -> None:
            found.image_sizes = [sample.img_shape[:2] for sample in kwargs['data_samples']]

        handle = model.register_forward_pre_hook(remember_sizes, with_kwargs=True)
        try:
            with watched_box_head(self.find_module(model)) as found.calls:
                yield [found]
        finally:
            handle.remove()

    def as_teacher(self, output: RoIPass) -> RoITeacher:
        """The RoIs of the widest pass and their predictions.

        Args:
            output: The widest pass.

        Returns:
            The same without graph and features.
        """
        rois = [call.arguments['rois'].detach() for call in output.calls]
        predictions = [tuple(item.detach() for item in _predictions(call)) for call in output.calls]
        return RoITeacher(output.image_sizes, rois, predictions)

    def losses(self, labels: dict, student: RoIPass, teacher: RoITeacher, scale: float) -> dict:
        """The loss of the predictions, in addition to the losses from the labels."""
        factors = _factors(student.image_sizes, teacher.image_sizes)
        stages = [
            self._divergence(_predictions(call.again(_rescaled(rois, factors))), predictions)
            for call, rois, predictions in zip(student.calls, teacher.rois, teacher.predictions)
        ]
        return {**labels, TERM: self.loss_weight * torch.stack(stages).sum()}

    def _divergence(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """The distance of two predictions for the same RoIs."""
        scores, deltas = (item.float() for item in student)
        target_scores, target_deltas = (item.float() for item in teacher)
        count = max(len(scores), 1)
        classes = F.kl_div(
            (scores / self.temperature).log_softmax(1),
            (target_scores / self.temperature).log_softmax(1),
            reduction='sum',
            log_target=True,
        )
        foreground = target_scores.softmax(1)[:, :-1]
        if deltas.size(1) == 4:  # the same box for all classes
            foreground = foreground.sum(1, keepdim=True)
        distances = F.smooth_l1_loss(deltas, target_deltas, reduction='none').unflatten(1, (-1, 4)).sum(2)
        return (self.temperature**2 * classes + (foreground * distances).sum()) / count


def _predictions(call: BoxHeadCall) -> tuple[Tensor, Tensor]:
    return call.results['cls_score'], call.results['bbox_pred']


def _is_supported(head: object) -> bool:
    """Whether a box head predicts a softmax over its classes and the background, and one box or one for each class."""
    if not isinstance(head, BBoxHead) or isinstance(head, MultiInstanceBBoxHead):
        return False
    is_softmax = not (getattr(head.loss_cls, 'use_sigmoid', False) or head.custom_activation)
    return is_softmax and head.with_cls and head.with_reg and head.bbox_coder.encode_size == 4


def _factors(student: Sequence[Size], teacher: Sequence[Size]) -> list[list[float]]:
    """From the teacher's pixels to the student's, for x1, y1, x2 and y2 of each image."""
    ratios = [(ours[1] / theirs[1], ours[0] / theirs[0]) for ours, theirs in zip(student, teacher)]
    return [[*ratio, *ratio] for ratio in ratios]


def _rescaled(rois: Tensor, factors: list[list[float]]) -> Tensor:
    """RoIs (R, 5) of the teacher's images in the student's."""
    images = rois[:, 0].long()
    table = torch.tensor(factors).to(rois, non_blocking=True)  # the CPU need not wait for the copy
    return torch.cat([rois[:, :1], rois[:, 1:] * table[images]], 1)
