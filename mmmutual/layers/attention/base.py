"""The base of slimmable attention: whole heads, whose number follows the width apart from the tokens' channels."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..divided import DividedLayer
from ..segments import Segment, take

HEADS = {'h': 1, 'q': 3}  # how many times all heads lie along a dimension of a tensor: queries, keys and values


class SlimAttention(DividedLayer):
    """Mix-in of attention layers; the second base computes it.

    A head keeps its size at every width, and with it the scale of the softmax. The number of active heads is the width
    times their full number, rounded, however the channels of the tokens are rounded. They slim where the output does.

    Attributes:
        sides: As ``DividedLayer.sides``, with ``h`` for channels or other numbers of all heads, head by head, and ``q``
            for those of all queries, then all keys, then all values.
        tokens: The arguments of ``forward`` whose channels it reads; all of them have the same channels.
        residual: Whether it adds its input to the output, so that both have the same channels.
    """

    tokens: ClassVar[tuple[str, ...]]
    residual: ClassVar[bool] = False
    num_heads: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the tokens and of the output at full width."""
        return self.embed_dims, self.embed_dims

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.sizes[1] // self.num_heads

    @property
    def active_heads(self) -> int:
        """Heads at the width."""
        return self._heads(self.num_heads).active(self.width)

    def __str__(self) -> str:
        """One line, for messages; ``repr`` lists the parts."""
        return f'{type(self).__name__}({self.sizes[1]} channels, {self.num_heads} heads)'

    def runs_stock(self, channels: int) -> bool:
        """Whether the stock layer computes an input: it has all channels, and all heads and outputs are active."""
        outputs = sum(segment.active(self.width) for segment in self.out_segments)
        return (channels, outputs, self.active_heads) == (*self.sizes, self.num_heads)

    def active_operands(self, key: int) -> dict[str, Any] | None:
        """The attributes of the stock class that are narrow at the width, by name."""
        self.check_channels(key)
        return {**self.active_tensors(key), **self.active_sizes(key)}

    def active_sizes(self, channels: int) -> dict[str, int]:
        """The attributes of the narrow layer that count its channels and heads.

        Args:
            channels: Channels of the tokens, after ``check_channels``.

        Returns:
            Their values by name.
        """
        return dict(num_heads=self.active_heads, embed_dims=channels)

    def _heads(self, total: int) -> Segment:
        """The segment of something that lies head by head."""
        slims = not all(segment.is_full for segment in self.out_segments)
        return Segment(total, total // self.num_heads) if slims else Segment.full(total)

    def _active_part(self, name: str, tensor: Tensor, channels: int) -> Tensor:
        tensor = super()._active_part(name, tensor, channels)
        for dim, side in enumerate(self.sides[name]):
            if side in HEADS:
                heads = self._heads(tensor.size(dim) // HEADS[side])
                tensor = take(tensor, (heads,) * HEADS[side], self.width, dim)
        return tensor
