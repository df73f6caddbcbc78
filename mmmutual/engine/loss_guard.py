"""Stop the run at a loss that is not finite, or leave the pass out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmutual.layers import SlimBatchNorm2d
from mmmutual.upstream import AnyBatchNorm

ACTIONS = ('raise', 'skip')


class LossGuard:
    """Check the losses of each pass between its forward and its backward.

    Gradients are not checked: an ``AmpOptimWrapper`` still skips steps and reduces its loss scale if finite losses have
    infinite gradients.

    Args:
        action: ``'raise'`` ends the run before the optimizer's step. ``'skip'`` sets the gradient of the pass to zero
            and restores the batch-norm statistics, so that only the other passes of the iteration determine the step.
            In distributed training each process skips separately.

    Raises:
        ValueError: If ``action`` is something else.
    """

    def __init__(self, action: str) -> None:
        if action not in ACTIONS:
            raise ValueError(f'nonfinite must be one of {ACTIONS}, but got {action!r}')
        self.action = action
        self._statistics: list[Tensor] = []

    @torch.no_grad()
    def before_forward(self, model: nn.Module) -> None:
        """Copy the statistics that the pass will update."""
        if self.action == 'skip':
            self._statistics = [buffer.clone() for buffer in _active_statistics(model)]

    def after_forward(self, model: nn.Module, losses: dict, where: str, data_samples: Sequence | None = None) -> dict:
        """Check the losses of a pass.

        Args:
            model: The model, still at the width of the pass.
            losses: Tensors or lists of tensors by name, as a detector returns them.
            where: The pass, for the message.
            data_samples: The data samples of the pass; the message names an image whose boxes are the cause.

        Returns:
            The losses, or the same values with a gradient of zero.

        Raises:
            FloatingPointError: If a loss is not finite and the action is ``'raise'``.
        """
        totals = {name: _total(value).detach() for name, value in losses.items()}
        terms = [name for name in totals if 'loss' in name]  # those that MMEngine adds up
        numbers = torch.stack([totals[name].float() for name in terms]).tolist()
        wrong = {name: number for name, number in zip(terms, numbers) if not math.isfinite(number)}
        if not wrong:
            return losses
        found = f'{where} {", ".join(f"{name} is {number}" for name, number in wrong.items())}'
        cause = _box_without_size(data_samples or ())
        if self.action == 'raise':
            remedy = (
                f'{cause}. Correct the annotation or remove it'
                if cause
                else 'Resume from the last checkpoint with a lower learning rate or clip_grad'
            )
            raise FloatingPointError(
                f'{found}. No step was taken. {remedy}, or leave such passes out with '
                "nonfinite='skip' in MutualLearningHook"
            )
        reason = f' ({cause})' if cause else ''
        print_log(f'{found}{reason}; the pass is left out', logger='current', level=logging.WARNING)
        with torch.no_grad():
            for buffer, former in zip(_active_statistics(model), self._statistics):
                buffer.copy_(former)
        # all parameters have a gradient: distributed training waits for each of them
        zero = sum((parameter * 0).sum() for parameter in model.parameters() if parameter.requires_grad)
        return {**totals, terms[0]: totals[terms[0]] + zero}


def _box_without_size(data_samples: Sequence) -> str:
    """A sentence about the first image with a box that has no size or is not finite, which makes losses infinite."""
    for sample in data_samples:
        boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)  # mmdet's boxes wrap a tensor
        if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.size(1) != 4:
            continue
        for box in boxes.tolist():
            if not (box[2] > box[0] and box[3] > box[1] and all(map(math.isfinite, box))):
                image = sample.get('img_path', None) or f'with id {sample.get("img_id", None)}'
                sides = ', '.join(f'{side:g}' for side in box)
                return f'The image {image} has a box without size, ({sides}) as x1, y1, x2, y2 after the pipeline'
    return ''


def _total(value: Tensor | list) -> Tensor:
    """The total of a loss, computed as in MMEngine."""
    return value.mean() if isinstance(value, Tensor) else sum(item.mean() for item in value)


def _active_statistics(model: nn.Module) -> Iterator[Tensor]:
    """Running statistics of all batch norms; of slimmable batch norms those at their width."""
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            buffers = layer.statistics(layer.width)
        elif isinstance(layer, AnyBatchNorm):
            buffers = layer.buffers(recurse=False)
        else:
            continue
        yield from (buffer for buffer in buffers if buffer is not None)
