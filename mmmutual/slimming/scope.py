"""The scope: the part of a model that is slimmable, its backbone or the detector with neck and heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

SCOPES = ('backbone', 'detector')
FilterFn = Callable[[nn.Module, str], bool]


def check_scope(scope: str) -> str:
    """Validate a scope.

    Args:
        scope: ``'backbone'`` or ``'detector'``.

    Returns:
        The scope.

    Raises:
        ValueError: If it is neither.
    """
    if scope not in SCOPES:
        raise ValueError(
            f"scope must be 'backbone', as in the paper, or 'detector', neck and heads too, but got {scope!r}"
        )
    return scope


def backbone_of(model: nn.Module) -> nn.Module:
    """The backbone of a model, or the model itself if it has none.

    Args:
        model: A detector, a classifier or a backbone.

    Returns:
        The backbone.

    Raises:
        ValueError: If the model consists of several models.
    """
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, nn.Module):
        return backbone
    nested = [name for name, _ in model.named_modules() if name.endswith('.backbone')]
    if nested:
        raise ValueError(
            f'{type(model).__name__} consists of several models: its backbones are {", ".join(nested)}. Make the one '
            'that is trained slimmable by itself'
        )
    return model


def is_teacher(name: str) -> bool:
    """Whether a layer belongs to a teacher, which stays stock."""
    return name.startswith('teacher')


def may_get_fewer(model: nn.Module, name: str, scope: str) -> bool:
    """Whether a layer that does not run on images alone may get the channels of a narrow network in training.

    Args:
        model: A detector or a backbone.
        name: The layer's name.
        scope: The scope.

    Returns:
        True in the backbone and behind it; with ``'backbone'`` not behind a neck, which has full outputs.
    """
    if is_teacher(name):
        return False
    if scope == 'detector' or backbone_of(model) is model or not isinstance(getattr(model, 'neck', None), nn.Module):
        return True
    return name.split('.')[0] in ('backbone', 'neck')
