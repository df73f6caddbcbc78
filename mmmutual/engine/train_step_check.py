"""Check that no setting depends on the ``train_step`` of a model, which MutualLearningHook replaces."""

from __future__ import annotations

from mmengine.runner import Runner
from torch import nn


def check_train_step(model: nn.Module) -> None:
    """Reject a model whose class overrides MMEngine's ``train_step``.

    Args:
        model: A model or its wrapper.

    Raises:
        ValueError: If the ``train_step`` is not MMEngine's.
    """
    train_step = getattr(type(model), 'train_step', None)
    if train_step is not None and not train_step.__module__.startswith('mmengine.'):
        raise ValueError(
            f'{type(model).__name__} overrides train_step of MMEngine, but MutualLearningHook does not call it: move '
            "its code to the model's loss or to a hook"
        )


def warn_of_replaced_train_step(runner: Runner) -> None:
    """Warn about options of MMEngine that change the ``train_step`` of the model, which is not called.

    Args:
        runner: The runner, with its model.
    """
    given = dict(
        compile='train_step' in vars(runner.model),  # torch.compile has made it
        detect_anomalous_params=getattr(runner.model, 'detect_anomalous_params', False),
    )
    for option in (name for name, is_given in given.items() if is_given):
        runner.logger.warning(
            f'{option} has no effect: MutualLearningHook runs the passes of an iteration instead of train_step'
        )
