"""Slimmable window attention, as in Swin transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mmdet.models.backbones.swin import WindowMSA
from torch import Tensor, nn

from ..forward import slimmable_forward
from ..frozen import operands_of
from ..stock_forward import stock_forward
from .base import SlimAttention

if TYPE_CHECKING:
    from torch.nn import Module as Attention
else:
    Attention = object  # a mix-in of window attentions


class DecoupledHeads(Attention):
    """First base of a window attention whose heads have ``head_dims`` channels, whatever the tokens have.

    A stock layer divides the tokens' channels by the number of heads.
    """

    head_dims: int

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the tokens of each window attend to each other.

        Args:
            x: (windows, tokens, C), the windows of one image after those of another.
            mask: (windows of an image, tokens, tokens), added to the scores.

        Returns:
            (windows, tokens, K).
        """
        windows, tokens, _ = x.shape
        qkv = self.projected(x).reshape(windows, tokens, 3, -1, self.head_dims).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]  # (windows, heads, tokens, head_dims)
        heads = query.size(1)
        bias = self.position_bias(heads)[self.relative_position_index.view(-1)]
        scores = self.scores(query, key) + bias.view(tokens, tokens, heads).permute(2, 0, 1)
        if mask is not None:
            scores = scores.view(-1, mask.size(0), heads, tokens, tokens) + mask[:, None]
            scores = scores.view(windows, heads, tokens, tokens)
        weights = self.attn_drop(self.softmax(scores))
        return self.proj_drop(self.proj((weights @ value).transpose(1, 2).reshape(windows, tokens, -1)))

    def projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values (windows, tokens, 3 x heads x head_dims) of the tokens."""
        return self.qkv(x)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores (windows, heads, tokens, tokens) of queries and keys."""
        return (query * self.scale) @ key.transpose(-2, -1)

    def position_bias(self, heads: int) -> Tensor:
        """The bias (relative positions, heads)."""
        return self.relative_position_bias_table


class DecoupledWindowMSA(DecoupledHeads, WindowMSA):
    """mmdet's window attention with heads of ``head_dims`` channels, as a narrow network has them."""


class SlimWindowAttention(SlimAttention):
    """First base of a slimmable window attention; the second is its class with ``DecoupledHeads``."""

    sides: ClassVar = {
        'qkv.weight': 'qi',
        'qkv.bias': 'q',
        'proj.weight': 'oh',
        'proj.bias': 'o',
        'relative_position_bias_table': '-h',
        'relative_position_index': '--',
    }
    tokens: ClassVar = ('x',)
    stock: ClassVar[type[nn.Module]]
    decoupled: ClassVar[type[nn.Module]]

    @slimmable_forward
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the active heads attend.

        Args:
            x: (windows, tokens, C) with C all channels or those that are active at the width.
            mask: (windows of an image, tokens, tokens), added to the scores.

        Returns:
            (windows, tokens, K) with K the active output channels.

        Raises:
            ValueError: For another C.
        """
        operands = operands_of(self, x.shape[-1])
        if operands is None:
            return self.stock.forward(self, x, mask)
        return stock_forward(self, operands, x, mask)

    def active_operands(self, key: int) -> dict[str, Any] | None:
        """As in other attentions; None if the stock layer computes the input."""
        operands = super().active_operands(key)
        return None if self.runs_stock(key) else operands

    def active_sizes(self, channels: int) -> dict[str, int]:
        """The attributes of the narrow layer that count its channels and heads."""
        return {**super().active_sizes(channels), 'head_dims': self.head_size}

    def narrow_class(self, channels: int) -> type[nn.Module] | None:
        """The class with decoupled heads, unless the heads have as many channels as the tokens."""
        return None if self.active_heads * self.head_size == channels else self.decoupled


class SlimWindowMSA(SlimWindowAttention, DecoupledWindowMSA):
    """mmdet's window attention with the first of its heads."""

    stock: ClassVar = WindowMSA
    decoupled: ClassVar = DecoupledWindowMSA
