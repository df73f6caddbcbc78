"""Convolutions of a GPU that round as those of the CPU, and alike in each call."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def full_precision() -> AbstractContextManager:
    """Without TensorFloat-32, and with algorithms that always add up in the same order."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
