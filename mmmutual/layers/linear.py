"""Slimmable linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .forward import slimmable_forward
from .inputs import channel_count, check_input
from .segments import Segment, check_segments
from .width import Slimmable


@MODELS.register_module()
class SlimLinear(Slimmable, nn.Linear):
    """A linear layer that can run on the first of its features.

    The active input features are those of the input tensor; the active output features follow the width.

    Args:
        in_features: Input features at full width.
        out_features: Output features at full width.
        bias: As ``nn.Linear``.
        device: As ``nn.Linear``.
        dtype: As ``nn.Linear``.
        slim_out: Whether the output slims. If False, as in a classifier, all output features are always computed.

    Example:
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
        self.slim_out = slim_out
        self.in_segments: tuple[Segment, ...] | None = None
        self.out_segments: tuple[Segment, ...] = (Segment(out_features),)

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set of what the active inputs and outputs are a multiple.

        Args:
            inputs: One segment of ``in_features``: behind maps of 7 x 7 pixels, flattened, in multiples of 8 x 49.
            outputs: One segment of ``out_features``; without effect if ``slim_out`` is False.

        Raises:
            ValueError: If it has another number of features, or for several segments.
        """
        for segments in (inputs, outputs):
            if segments is not None and len(segments) != 1:
                raise ValueError(f'{self} has one segment on either side, but got {list(segments)}')
        if inputs is not None:
            self.in_segments = check_segments(inputs, self.in_features, f'the input of {self}')
        if outputs is not None:
            self.out_segments = check_segments(outputs, self.out_features, f'the output of {self}')

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
        features_in = channel_count(x, -1)
        check_input(self, features_in, self.in_features, self.in_segments)
        features_out = self.out_segments[0].active(self.width) if self.slim_out else self.out_features
        weight, bias = self.weight, self.bias
        if features_out != self.out_features or features_in != self.in_features:
            weight = weight[:features_out, :features_in]
            bias = None if bias is None else bias[:features_out]
        return F.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
