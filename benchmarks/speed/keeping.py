"""A trial: convolutions that keep the contiguous copy of their active weight.

Correct only while no weight changes, which is not checked. docs/speed.md gives the reason why this is not part of the
package.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from mmmutual.layers import SlimConv2d


class KeepingConv2d(SlimConv2d):
    """A slimmable convolution that copies its active weight at the first call after a switch only."""

    kept: Tensor | None = None

    def _convolve(self, x: Tensor, weight: Tensor, *args) -> Tensor:
        if not weight.is_contiguous():
            if self.kept is None or self.kept.shape != weight.shape:
                self.kept = weight.contiguous()
            weight = self.kept
        return super()._convolve(x, weight, *args)


def keeping(model: nn.Module) -> nn.Module:
    """A copy of a slimmable model with such convolutions."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if type(layer) is SlimConv2d:
            layer.__class__ = KeepingConv2d
    return model
