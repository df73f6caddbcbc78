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

from .pass_losses import NonfiniteLossError, PassLosses, read

ACTIONS = ('raise', 'skip')
REMEDY = 'Resume from the last checkpoint with a lower learning rate or clip_grad'


class LossGuard:
    """Check the losses of the passes before the optimizer's step.

    Gradients are not checked: an ``AmpOptimWrapper`` still skips steps and reduces its loss scale if finite losses have
    infinite gradients.

    Args:
        action: ``'raise'`` ends the run before the optimizer's step. The losses of all passes are read together, so
            that the CPU waits for a GPU once an iteration. ``'skip'`` sets the gradient of a pass to zero and restores
            the batch-norm statistics, so that only the other passes of the iteration determine the step. It reads the
            losses of each pass before its backward. In distributed training each process skips separately.

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

    def after_forward(
        self, model: nn.Module, loss: Tensor, losses: PassLosses, data_samples: Sequence | None = None
    ) -> Tensor:
        """Leave a pass out if its losses are not finite and the action is ``'skip'``.

        Args:
            model: The model, still at the width of the pass.
            loss: The loss of the pass, ().
            losses: Its terms.
            data_samples: The data samples of the batch; the message names an image whose boxes are the cause.

        Returns:
            The loss, or the same value with a gradient of zero.
        """
        if self.action != 'skip':
            return loss
        read([losses])
        found = losses.nonfinite()
        if not found:
            return loss
        cause = _box_without_size(data_samples or ())
        reason = f' ({cause})' if cause else ''
        print_log(f'{losses.where} {found}{reason}; the pass is left out', logger='current', level=logging.WARNING)
        with torch.no_grad():
            for buffer, former in zip(_active_statistics(model), self._statistics):
                buffer.copy_(former)
        # all parameters have a gradient: distributed training waits for each of them
        zero = sum((parameter * 0).sum() for parameter in model.parameters() if parameter.requires_grad)
        return loss.detach() + zero

    def before_step(self, passes: Sequence[PassLosses], data_samples: Sequence | None = None) -> None:
        """Check the passes of an iteration after the last forward.

        Args:
            passes: The losses of the passes.
            data_samples: As ``after_forward``.

        Raises:
            NonfiniteLossError: If a loss is not finite and the action is ``'raise'``.
        """
        if self.action != 'raise':
            return
        read(passes)
        for losses in passes:
            found = losses.nonfinite()
            if found:
                remedy = _box_without_size(data_samples or ())
                remedy = f'{remedy}. Correct the annotation or remove it' if remedy else REMEDY
                raise NonfiniteLossError(
                    f'{losses.where} {found}. No step was taken. {remedy}, or leave such passes out with '
                    "nonfinite='skip' in MutualLearningHook"
                )


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
