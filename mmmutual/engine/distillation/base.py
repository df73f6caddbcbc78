"""A distillation: a loss by which the narrow passes of an iteration learn from its widest pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.number_checks import check_positive

TERM = 'loss_distill'


class Distillation:
    """Compare the output of a module in a narrow pass and in the widest pass on the same batch.

    Args:
        module: Dotted name of the module in the model, as in ``named_modules``.
        loss_weight: Factor of the loss.

    Raises:
        TypeError: If ``loss_weight`` is not a number.
        ValueError: If it is not above 0.
    """

    def __init__(self, module: str, loss_weight: float = 1.0) -> None:
        self.module, self.loss_weight = module, check_positive(loss_weight, 'loss_weight')

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

    def as_teacher(self, output: Any) -> Any:
        """The output of the widest pass, as the narrow passes of the iteration compare with it.

        Args:
            output: Collected by ``watched`` in the widest pass.

        Returns:
            The same without its graph.

        Raises:
            TypeError: If the module returns anything but tensors, or lists and tuples of tensors.
        """
        return detached(output)

    def losses(self, labels: dict, student: Any, teacher: Any, scale: float) -> dict:
        """The losses of a narrow pass.

        Args:
            labels: Losses of the pass from the labels.
            student: Collected by ``watched`` in the narrow pass, whose width is still active.
            teacher: From ``as_teacher``.
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
