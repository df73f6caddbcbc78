"""The model behind the wrapper of distributed training."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, if ``model`` is wrapped for distributed training; else ``model``."""
    return model.module if is_model_wrapper(model) else model
