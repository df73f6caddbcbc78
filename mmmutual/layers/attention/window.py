"""Slimmable window attention, as in Swin transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmdet.models.backbones.swin import WindowMSA
from torch import Tensor, nn

from ..forward import slimmable_forward
from ..inputs import channel_count
from .base import SlimAttention, divide_linear

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
        qkv = self.qkv(x).reshape(windows, tokens, 3, -1, self.head_dims).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]  # (windows, heads, tokens, head_dims)
        heads = query.size(1)
        bias = self.relative_position_bias_table[:, :heads][self.relative_position_index.view(-1)]
        scores = (query * self.scale) @ key.transpose(-2, -1) + bias.view(tokens, tokens, heads).permute(2, 0, 1)
        if mask is not None:
            scores = scores.view(-1, len(mask), heads, tokens, tokens) + mask[:, None]
            scores = scores.view(windows, heads, tokens, tokens)
        weights = self.attn_drop(self.softmax(scores))
        return self.proj_drop(self.proj((weights @ value).transpose(1, 2).reshape(windows, tokens, -1)))


class DecoupledWindowMSA(DecoupledHeads, WindowMSA):
    """mmdet's window attention with heads of ``head_dims`` channels, as a narrow network has them."""


class SlimWindowAttention(SlimAttention):
    """First base of slimmable window attentions, before ``DecoupledHeads`` and the stock class."""

    tokens = ('x',)
    reads = ('qkv.weight',)
    writes = ('proj.weight', 'proj.bias')
    decoupled: ClassVar[type[nn.Module]]

    @property
    def head_dims(self) -> int:
        """Channels of a head."""
        return self.embed_dims // self.num_heads

    def parts(self) -> list[nn.Module]:
        """The projections."""
        return [self.qkv, self.proj]

    def divide_parts(self) -> None:
        """Query, key and value are a segment each, as they lie in one linear layer."""
        heads = self.heads(self.head_dims)
        divide_linear(self.qkv, self.in_segments, (heads, heads, heads))
        divide_linear(self.proj, (heads,), self.out_segments)

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
        channels = channel_count(x, -1)
        self.check_channels(channels)
        return self.stock_forward(x, mask) if self.is_full(channels) else super().forward(x, mask)

    def own_parameters(self, channels: int) -> int:
        """The number of its active parameters, without those of its parts."""
        return self.relative_position_bias_table.size(0) * self.active_heads

    def narrowed(self, channels: int) -> tuple[type[nn.Module] | None, dict]:
        """The narrow layer of the width."""
        heads, size = self.active_heads, self.head_dims
        table = self.relative_position_bias_table
        values = dict(num_heads=heads, embed_dims=channels, relative_position_bias_table=table[:, :heads])
        if heads * size == channels:
            return None, values
        return self.decoupled, dict(values, head_dims=size)


class SlimWindowMSA(SlimWindowAttention, DecoupledHeads, WindowMSA):
    """mmdet's window attention with the first of its heads."""

    decoupled = DecoupledWindowMSA
    stock_forward = WindowMSA.forward
