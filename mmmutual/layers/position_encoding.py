"""Slimmable sine position encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmdet.models.layers import SinePositionalEncoding
from torch import Tensor, nn

from .divided import DividedLayer
from .forward import slimmable_forward
from .segments import Segment, take


class PartialSinePositionalEncoding(SinePositionalEncoding):
    """A sine position encoding of which some channels are left out, as a narrow network has it.

    A stock one with fewer channels has other wavelengths.

    Attributes:
        kept: The places of its channels among all of them.
    """

    kept: Sequence[int]

    def forward(self, mask: Tensor | None, input: Tensor | None = None) -> Tensor:
        """Encode the places of pixels, as mmdet's."""
        return super().forward(mask, input)[:, self.kept]


class SlimSinePositionalEncoding(DividedLayer, SinePositionalEncoding):
    """mmdet's sine position encoding with the first channels of both halves, which encode y and x."""

    sides: ClassVar = {}

    @property
    def sizes(self) -> tuple[int, int]:
        """It reads no channels; the output channels at full width."""
        return 0, 2 * self.num_feats

    def set_up(self, slim_out: bool = True) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""
        super().set_up(slim_out)
        self.in_segments = ()

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set the segments of the output.

        Args:
            inputs: None, since it reads no channels.
            outputs: Segments that make up the output channels.

        Raises:
            ValueError: If they do not add up.
        """
        super().divide(None, outputs)

    @slimmable_forward
    def forward(self, mask: Tensor | None, input: Tensor | None = None) -> Tensor:
        """Encode the places of pixels.

        Args:
            mask: (N, H, W), not zero where an image is padded; None without padding.
            input: (N, C, H, W), for its size if there is no mask.

        Returns:
            (N, K, H, W) with K the active output channels.
        """
        return take(super().forward(mask, input), self.out_segments, self.width, 1)

    def active_sizes(self, channels: int) -> dict[str, Any]:
        """The places of the active channels, as the narrow encoding needs them."""
        return dict(kept=take(torch.arange(self.sizes[1]), self.out_segments, self.width).tolist())

    def narrow_class(self, channels: int) -> type[nn.Module] | None:
        """The class that leaves channels out, if some are not active."""
        return None if all(segment.is_full for segment in self.out_segments) else PartialSinePositionalEncoding
