"""The base of slimmable attention: whole heads, whose number follows the width apart from the tokens' channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from ..divided import DividedLayer
from ..linear import SlimLinear
from ..segments import Segment


class SlimAttention(DividedLayer):
    """Mix-in of attention layers; the second base computes it.

    A head keeps its size at every width, and with it the scale of the softmax. The number of heads is the width times
    their full number, rounded, and does not depend on how the channels of the tokens are rounded.

    Attributes:
        tokens: The arguments of ``forward`` whose channels it reads; all of them have the same channels.
        reads: Its parameters with the tokens' channels along dimension 1.
        writes: Its parameters with the output's channels along dimension 0.
        residual: Whether it adds its input to the output, so that both have the same channels.
    """

    tokens: ClassVar[tuple[str, ...]]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[str, ...]]
    residual: ClassVar[bool] = False
    num_heads: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the tokens and of the output at full width."""
        return self.embed_dims, self.embed_dims

    def parts(self) -> list[nn.Module]:
        """The linear layers inside, which slim with it."""
        return []

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set the segments of the tokens and of the output; the heads slim if the output does.

        Args:
            inputs: Segments that make up the channels of the tokens.
            outputs: Segments that make up the output channels; without effect if ``slim_out`` is False.

        Raises:
            ValueError: If segments do not add up.
        """
        super().divide(inputs, outputs)
        self.divide_parts()

    def divide_parts(self) -> None:
        """Set the segments of the linear layers inside; by default there are none."""

    def heads(self, size: int) -> Segment:
        """The segment of all heads.

        Args:
            size: Channels of a head, or other numbers for each one.

        Returns:
            The segment, whose active part is whole heads.
        """
        slims = self.slim_out and not all(segment.is_full for segment in self.out_segments)
        total = self.all_heads * size
        return Segment(total, size) if slims else Segment.full(total)

    @property
    def all_heads(self) -> int:
        """Heads at full width."""
        return self.num_heads

    @property
    def active_heads(self) -> int:
        """Heads at the width."""
        return self.heads(1).active(self.width)

    def is_full(self, channels: int) -> bool:
        """Whether the stock layer computes an input: it has all channels, and all heads and outputs are active."""
        return (
            channels == self.sizes[0]
            and self.active_heads == self.all_heads
            and sum(segment.active(self.width) for segment in self.out_segments) == self.sizes[1]
        )

    def own_parameters(self, channels: int) -> int:
        """The number of its active parameters, without those of its parts.

        Args:
            channels: Channels of its tokens.

        Returns:
            The number.
        """
        return 0

    def narrowed(self, channels: int) -> tuple[type[nn.Module] | None, dict]:
        """The narrow layer of the width, after its parts are narrow.

        Args:
            channels: Channels of its tokens.

        Returns:
            Its class, if it is not the stock class, and its attributes.
        """
        raise NotImplementedError


def divide_linear(layer: SlimLinear, inputs: Sequence[Segment] | None, outputs: Sequence[Segment]) -> None:
    """Set the segments of a linear layer inside, whose outputs are all active if each segment is full."""
    layer.slim_out = True
    layer.divide(inputs, outputs)
