"""Slimmable linear layer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .divided import DividedLayer
from .forward import slimmable_forward
from .frozen import operands_of


@MODELS.register_module()
class SlimLinear(DividedLayer, nn.Linear):
    """A linear layer that can run on the first of its features.

    The active input features are those of the input tensor; the active output features follow the width.

    Args:
        in_features: Input features at full width.
        out_features: Output features at full width.
        bias: As ``nn.Linear``.
        device: As ``nn.Linear``.
        dtype: As ``nn.Linear``.
        slim_out: Whether the output slims. If False, as in a classifier, all output features are always computed.

    Examples:
        >>> classifier = SlimLinear(2048, 1000, slim_out=False)
        >>> mmmutual.set_width(classifier, 0.25)
        >>> classifier(torch.rand(1, 512)).shape
        torch.Size([1, 1000])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        slim_out: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.set_up(slim_out)

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Multiply with the active part of the weight.

        Args:
            x: (..., C) with C ``in_features`` or those of them that are active at the width.

        Returns:
            (..., K) with K the active output features.

        Raises:
            ValueError: For another C.
        """
        weight, bias = operands_of(self, x.shape[-1])
        return F.linear(x, weight, bias)
