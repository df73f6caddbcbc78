"""Slimmable linear layer."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .channels import active_channels
from .width import Slimmable


@MODELS.register_module()
class SlimLinear(Slimmable, nn.Linear):
    """A linear layer that can run on the first of its features.

    The active input features are those of the input tensor; the active output features follow the width.

    Args:
        *args: As ``nn.Linear``.
        slim_out: Whether the output slims. If False, as in a classifier, all output features are always computed.
        **kwargs: As ``nn.Linear``.

    Example:
        >>> classifier = SlimLinear(2048, 1000, slim_out=False)
        >>> classifier(torch.rand(1, 512)).shape
        torch.Size([1, 1000])
    """

    def __init__(self, *args, slim_out: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.slim_out = slim_out

    def forward(self, x: Tensor) -> Tensor:
        """Multiply with the active part of the weight.

        Args:
            x: (..., C) with C at most ``in_features``.

        Returns:
            (..., K) with K the active output features.

        Raises:
            ValueError: If C is more than ``in_features``.
        """
        features_in = x.size(-1)
        if features_in > self.in_features:
            raise ValueError(f'the input has {features_in} features, but {self} takes at most {self.in_features}')
        features_out = active_channels(self.out_features, self.width) if self.slim_out else self.out_features
        weight, bias = self.weight, self.bias
        if features_out != self.out_features or features_in != self.in_features:
            weight = weight[:features_out, :features_in]
            bias = None if bias is None else bias[:features_out]
        return F.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
