"""Slimmable layer norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .forward import slimmable_forward
from .frozen import operands_of
from .inputs import check_input
from .segments import Segment, check_segments, take
from .width import Slimmable


@MODELS.register_module('SlimLN')
class SlimLayerNorm(Slimmable, nn.LayerNorm):
    """A layer norm over the active channels: mean and variance are theirs. Nothing is stored per width.

    Args:
        normalized_shape: Channels at full width, the last dimension of the input.
        eps: Added to the variance.
        elementwise_affine: As ``nn.LayerNorm``.
        device: As ``nn.LayerNorm``.
        dtype: As ``nn.LayerNorm``.
        bias: As ``nn.LayerNorm``.
    """

    _abbr_ = 'ln'

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        without_bias = {} if bias else dict(bias=False)  # older versions of torch have no such argument
        super().__init__(normalized_shape, eps, elementwise_affine, device=device, dtype=dtype, **without_bias)
        self.set_up()

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether it normalises one dimension, that of the channels."""
        return len(layer.normalized_shape) == 1

    def set_up(self) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""
        self.segments: tuple[Segment, ...] | None = None

    @property
    def channels(self) -> int:
        """Channels at full width."""
        return self.normalized_shape[0]

    def divide(self, segments: Sequence[Segment]) -> None:
        """Set the segments of the channels, as those of the layer before it.

        Args:
            segments: Segments that make up the channels.

        Raises:
            ValueError: If they do not add up.
        """
        self.segments = check_segments(segments, self.channels, str(self))

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Normalise the active channels.

        Args:
            x: (..., C) with C all channels or those that are active at the width.

        Returns:
            The same shape as ``x``.

        Raises:
            ValueError: For another C.
        """
        return self.normalised(x)

    def normalised(self, x: Tensor) -> Tensor:
        """``forward``, for a subclass whose channels lie in another dimension."""
        shape, weight, bias = operands_of(self, x.shape[-1])
        return F.layer_norm(x, shape, weight, bias, self.eps)

    def active_operands(self, key: int) -> tuple[tuple[int], Tensor | None, Tensor | None]:
        """The normalised shape, and the active weight and bias."""
        check_input(self, key, self.channels, self.segments)
        active = self.active_tensors(key)
        return (key,), active.get('weight'), active.get('bias')

    def active_tensors(self, channels: int) -> dict[str, Tensor]:
        """The active part of weight and bias, as far as it has them, for the channels of an input."""
        segments = self.segments or (Segment(self.channels),)
        return {
            name: value if channels == self.channels else take(value, segments, self.width)
            for name, value in self.named_parameters(recurse=False)
        }

    def active_sizes(self, channels: int) -> dict[str, Any]:
        """The attributes of the narrow norm that count the channels of an input."""
        return dict(normalized_shape=(channels,))
