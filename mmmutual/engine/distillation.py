"""In-place distillation: losses by which the narrow passes of an iteration learn from its widest pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

TERM = 'loss_distill'
Features: TypeAlias = Tensor | Sequence[Tensor]


class Distillation:
    """Compare the output of a module in a narrow pass and in the widest pass on the same batch.

    Args:
        module: Dotted name of the module in the model, as in ``named_modules``.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If ``loss_weight`` is not above 0.
    """

    def __init__(self, module: str, loss_weight: float = 1.0) -> None:
        if not loss_weight > 0:
            raise ValueError(f'loss_weight must be above 0, but got {loss_weight!r}')
        self.module, self.loss_weight = module, loss_weight

    def find_module(self, model: nn.Module) -> nn.Module:
        """The module whose output is compared.

        Args:
            model: A model, without a wrapper.

        Returns:
            A part of the model.

        Raises:
            ValueError: If the model has no module of that name.
        """
        try:
            return model.get_submodule(self.module)
        except AttributeError:
            raise ValueError(
                f'distill needs the module {self.module!r}, but {type(model).__name__} only has '
                f'{[name for name, _ in model.named_children()]}: set distill.module to one of these'
            ) from None

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[list]:
        """Collect the outputs of the module in a pass.

        Args:
            model: A model, without a wrapper.

        Yields:
            A list that receives the outputs.

        Raises:
            ValueError: If the model has no module of that name, or if the pass does not call it.
        """
        outputs: list = []
        handle = self.find_module(model).register_forward_hook(lambda module, args, output: outputs.append(output))
        try:
            yield outputs
        finally:
            handle.remove()
        if not outputs:
            raise ValueError(
                f'distill needs the module {self.module!r}, but the training pass did not call it: set distill.module '
                'to another module'
            )

    def losses(self, labels: dict, student: Any, teacher: Any, scale: float) -> dict:
        """The losses of a narrow pass.

        Args:
            labels: Losses of the pass from the labels.
            student: Output of the module in the narrow pass.
            teacher: Detached output of the module in the widest pass.
            scale: Input scale of the narrow pass over that of the widest.

        Returns:
            The losses to train with, including ``loss_distill``.
        """
        raise NotImplementedError


def build_distillation(config: dict) -> Distillation:
    """Build a distillation.

    Args:
        config: Its config.

    Returns:
        The distillation.

    Raises:
        TypeError: If it is not the config of a distillation.
    """
    built = MODELS.build(config) if isinstance(config, dict) else config
    if not isinstance(built, Distillation):
        raise TypeError(
            "distill must be the config of a Distillation, for example dict(type='PearsonDistillation') for detectors "
            f"or dict(type='SoftLabelDistillation') for classifiers, but got {config!r}"
        )
    return built


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


def detached(output: Any) -> Any:
    """Detach a tensor, or tensors in lists and tuples, from their graph.

    Args:
        output: The output of a module.

    Returns:
        A tensor, or tuples of tensors.

    Raises:
        TypeError: If it contains anything else.
    """
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, (list, tuple)):
        return tuple(detached(item) for item in output)
    raise TypeError(
        f'distill compares tensors, but its module returns a {type(output).__name__}: set distill.module to another '
        'module'
    )
