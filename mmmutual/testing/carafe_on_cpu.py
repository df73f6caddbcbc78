"""CARAFE's upsampling on the CPU, for which mmcv has no kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.autograd import Function


class CarafeOnCPU(Function):
    """The function ``mmcv.ops.carafe``: each output pixel is a weighted sum of the input pixels around it.

    It computes in NumPy, so that a plan cannot follow channels through it, as it cannot through mmcv's operator.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
        """Features (N, C, H, W) and masks (N, groups * kernel**2, H * scale, W * scale) to (N, C, H * scale, ...)."""
        ctx.save_for_backward(features, masks)
        ctx.settings = kernel, groups, scale
        weights = _weights(masks, groups)
        padded = _padded(features, kernel)
        output = sum(
            weights[:, :, index] * _enlarged(padded[window], groups, scale)
            for index, window in _windows(features, kernel)
        )
        return features.new_tensor(output).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of features and masks."""
        features, masks = ctx.saved_tensors
        kernel, groups, scale = ctx.settings
        size = features.size(0), groups, -1, *gradient.shape[2:]
        arrived, weights = gradient.detach().numpy().reshape(size), _weights(masks, groups)
        padded = _padded(features, kernel)
        of_padded, of_weights = np.zeros_like(padded), np.zeros_like(weights)
        for index, window in _windows(features, kernel):
            of_weights[:, :, index] = (arrived * _enlarged(padded[window], groups, scale)).sum(2, keepdims=True)
            pixels = (arrived * weights[:, :, index]).reshape(*features.shape[:3], scale, features.size(3), scale)
            of_padded[window] += pixels.sum((3, 5))
        edge = kernel // 2
        inside = of_padded[:, :, edge : edge + features.size(2), edge : edge + features.size(3)]
        return features.new_tensor(inside), masks.new_tensor(of_weights.reshape(masks.shape)), None, None, None


def run_carafe_on_cpu() -> None:
    """Let mmcv's modules use this function, in this process."""
    sys.modules['mmcv.ops.carafe'].carafe = CarafeOnCPU.apply  # type: ignore[attr-defined]


def _weights(masks: Tensor, groups: int) -> np.ndarray:
    return masks.detach().numpy().reshape(masks.size(0), groups, -1, 1, *masks.shape[2:])


def _padded(features: Tensor, kernel: int) -> np.ndarray:
    return np.pad(features.detach().numpy(), ((0, 0), (0, 0), *((kernel // 2, kernel // 2),) * 2))


def _windows(features: Tensor, kernel: int) -> Iterator[tuple[int, tuple]]:
    """Each pixel of the kernel, with the place of the features that it reads."""
    height, width = features.shape[2:]
    for index in range(kernel**2):
        top, left = divmod(index, kernel)
        yield index, (..., slice(top, top + height), slice(left, left + width))


def _enlarged(window: np.ndarray, groups: int, scale: int) -> np.ndarray:
    large = window.repeat(scale, 2).repeat(scale, 3)
    return large.reshape(large.shape[0], groups, -1, *large.shape[2:])
