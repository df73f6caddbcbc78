"""In-place distillation: what the narrow passes of an iteration learn from its widest pass."""

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
    """Compares one module's output in a narrow pass with that of the widest pass on the same batch.

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
            ValueError: If the model has none of that name.
        """
        try:
            return model.get_submodule(self.module)
        except AttributeError:
            raise ValueError(
                f'distill watches the module {self.module!r}, but {type(model).__name__} has none of that name; it has '
                f'{[name for name, _ in model.named_children()]}: name one with distill.module'
            ) from None

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[list]:
        """Collect the outputs of the module in a pass.

        Args:
            model: A model, without a wrapper.

        Yields:
            A list that receives the outputs.

        Raises:
            ValueError: If the model has none of that name, or the pass does not call it.
        """
        outputs: list = []
        handle = self.find_module(model).register_forward_hook(lambda module, args, output: outputs.append(output))
        try:
            yield outputs
        finally:
            handle.remove()
        if not outputs:
            raise ValueError(
                f'distill watches the module {self.module!r}, which the training pass did not call: name another one '
                'with distill.module'
            )

    def losses(self, labels: dict, student: Any, teacher: Any, scale: float) -> dict:
        """The losses of a narrow pass.

        Args:
            labels: Its losses from the labels.
            student: Output of the module in the narrow pass.
            teacher: Detached output of the module in the widest pass.
            scale: Input scale of the narrow pass over that of the widest.

        Returns:
            The losses to train with, ``loss_distill`` among them.
        """
        raise NotImplementedError


def build_distillation(config: dict) -> Distillation:
    """Build a distillation.

    Args:
        config: Its config.

    Returns:
        The distillation.

    Raises:
        TypeError: If the config is that of something else.
    """
    built = MODELS.build(config) if isinstance(config, dict) else config
    if not isinstance(built, Distillation):
        raise TypeError(
            "distill must be the config of a Distillation, as dict(type='PearsonDistillation') for detectors or "
            f"dict(type='SoftLabelDistillation') for classifiers, but got {config!r}"
        )
    return built


@MODELS.register_module()
class SoftLabelDistillation(Distillation):
    """A narrow classifier learns the widest one's class probabilities in place of the labels.

    The training of US-Nets and of MutualNet on ImageNet (github taoyang1122/MutualNet, ``train.py``): the
    Kullback-Leibler divergence of the teacher's from the student's class probabilities, mean over the batch.

    Args:
        module: What computes the class scores (N, classes): the head of mmpretrain's ``ImageClassifier``.
        loss_weight: Factor of the loss.
    """

    def __init__(self, module: str = 'head', loss_weight: float = 1.0) -> None:
        super().__init__(module, loss_weight)

    def losses(self, labels: dict, student: Tensor, teacher: Tensor, scale: float) -> dict:
        """The divergence alone; what else the pass logs stays."""
        divergence = F.kl_div(
            student.float().log_softmax(1), teacher.float().log_softmax(1), reduction='batchmean', log_target=True
        )
        others = {name: value for name, value in labels.items() if 'loss' not in name}
        return {TERM: self.loss_weight * divergence, **others}


@MODELS.register_module()
class PearsonDistillation(Distillation):
    """The neck's features of a narrow detector imitate the widest one's, beside the labels.

    The loss is 1 minus Pearson's correlation of each channel over batch and pixels, mean over channels and levels (PKD,
    arXiv 2207.02039). It compares shapes of activation, not their magnitudes, so levels and channels weigh alike. The
    widest network's features are brought to the narrow pass's scale.

    Args:
        module: What computes the features, (N, C, H, W) or levels of them: the neck of mmdet's detectors.
        loss_weight: Factor of the loss.
    """

    def __init__(self, module: str = 'neck', loss_weight: float = 1.0) -> None:
        super().__init__(module, loss_weight)

    def losses(self, labels: dict, student: Features, teacher: Features, scale: float) -> dict:
        """The correlation's loss beside those from the labels."""
        student, teacher = ([maps] if isinstance(maps, Tensor) else maps for maps in (student, teacher))
        levels = [_decorrelation(*_aligned(ours, theirs, scale)) for ours, theirs in zip(student, teacher)]
        return {**labels, TERM: self.loss_weight * torch.stack(levels).mean()}


def _aligned(student: Tensor, teacher: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same pixels and channels of both: a neck that slims has the first channels; padding may differ."""
    teacher = teacher[:, : student.size(1)].float()
    if scale != 1.0:
        size = [max(1, round(side * scale)) for side in teacher.shape[2:]]
        teacher = F.interpolate(teacher, size=size, mode='bilinear', antialias=True)
    height, width = (min(sides) for sides in zip(student.shape[2:], teacher.shape[2:]))
    return student[..., :height, :width].float(), teacher[..., :height, :width]


def _decorrelation(student: Tensor, teacher: Tensor) -> Tensor:
    """1 minus the correlation of two maps (N, C, H, W), mean over the channels."""
    student, teacher = (_centered(features) for features in (student, teacher))
    return 1 - F.cosine_similarity(student, teacher).mean()


def _centered(features: Tensor) -> Tensor:
    """The values of each channel without their mean, (C, N H W)."""
    flat = features.transpose(0, 1).flatten(1)
    return flat - flat.mean(1, keepdim=True)


def detached(output: Any) -> Any:
    """The same tensor, or tensors in lists and tuples, without their graph.

    Args:
        output: What a module returned.

    Returns:
        A tensor, or tuples of tensors.

    Raises:
        TypeError: If there is anything else in it.
    """
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, (list, tuple)):
        return tuple(detached(item) for item in output)
    raise TypeError(
        f'distill compares tensors, but the module it watches returns a {type(output).__name__}: name another one with '
        'distill.module'
    )
