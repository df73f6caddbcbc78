"""The ``forward`` of every slimmable layer: a leaf in a symbolic trace; a rerun at another width is an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy

from mmmutual.upstream import in_backward

FORWARDS = '_forwards'  # attribute of a layer: its width, and how many of its forwards may be run again


def slimmable_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the ``forward`` of a slimmable layer.

    In ``torch.fx.symbolic_trace`` the layer is a leaf, like torch's layers: its computation depends on its width and on
    the channels of its input, which a symbolic graph does not contain.

    A checkpointed block (``with_cp=True``) runs again in the backward. It must do so at the width of its forward.

    Args:
        forward: The method.

    Returns:
        The method, which raises ``ValueError`` if a backward runs the layer at another width than the forward.
    """

    @wraps(forward)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Proxy):
                return value.tracer.create_proxy('call_module', value.tracer.path_of_module(self), args, kwargs)
        if (self.training or torch.is_grad_enabled()) and not torch.compiler.is_compiling():
            _check_rerun(self)
        return forward(self, *args, **kwargs)

    return wrapped


def _check_rerun(layer: nn.Module) -> None:
    """Count the forwards in training; raise if one is run again at another width."""
    width, state = layer.width, vars(layer)
    former, runs, others = state.get(FORWARDS, (width, 0, False))
    if not in_backward():
        if layer.training:
            state[FORWARDS] = (width, runs + 1, others) if former == width else (width, 1, others or runs > 0)
        return
    if former != width or (others and runs < 1):
        raise ValueError(
            f'a checkpointed block (with_cp) runs {layer} again at width {width:g}, but its forward was at another '
            'width: call backward inside the same use_width block as the forward'
        )
    state[FORWARDS] = (width, runs - 1, others)
