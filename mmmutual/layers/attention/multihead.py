"""Slimmable ``nn.MultiheadAttention``."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..forward import slimmable_forward
from ..inputs import channel_count
from ..segments import Segment, take
from .base import SlimAttention

Projections: TypeAlias = tuple[Tensor, Tensor | None, Tensor, Tensor | None]


class DecoupledMultiheadAttention(nn.MultiheadAttention):
    """A multi-head attention whose heads have ``head_dim`` channels, whatever the tokens have.

    The stock layer divides the tokens' channels by the number of heads.
    """

    def projections(self, channels: int) -> Projections:
        """Weight and bias of the input projections, (3 x heads x head_dim, C), and of the output projection."""
        return self.in_proj_weight, self.in_proj_bias, self.out_proj.weight, self.out_proj.bias

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as ``nn.MultiheadAttention`` with a batch.

        Args:
            query: (L, N, C), or (N, L, C) with ``batch_first``.
            key: (S, N, C), or (N, S, C).
            value: As ``key``.
            key_padding_mask: (N, S): True, or a number that is added to the scores.
            need_weights: Whether to return the weights.
            attn_mask: (L, S) or (N x all heads, L, S), as ``key_padding_mask``.
            average_attn_weights: Whether to average the weights over the heads.
            is_causal: A hint that ``attn_mask`` is causal; without effect.

        Returns:
            The output in the shape of ``query`` with its active channels, and the weights (N, L, S) or
            (N, heads, L, S), or None.
        """
        if not self.batch_first:
            query, key, value = (tokens.transpose(0, 1) for tokens in (query, key, value))
        in_weight, in_bias, out_weight, out_bias = self.projections(query.size(-1))
        biases = (None, None, None) if in_bias is None else in_bias.chunk(3)
        heads = in_weight.size(0) // 3 // self.head_dim
        query, key, value = (
            F.linear(tokens, weight, bias).unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
            for tokens, weight, bias in zip((query, key, value), in_weight.chunk(3), biases)
        )  # (N, heads, L or S, head_dim)
        scores = (query / math.sqrt(self.head_dim)) @ key.transpose(-2, -1)
        if attn_mask is not None:
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.unflatten(0, (len(query), -1))[:, :heads]
            scores = scores + _added(attn_mask, scores)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask, scores)[:, None, None]
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        output = F.linear((weights @ value).transpose(1, 2).flatten(2), out_weight, out_bias)
        if not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, weights.mean(1) if average_attn_weights else weights


class SlimMultiheadAttention(SlimAttention, DecoupledMultiheadAttention):
    """A multi-head attention with the first of its heads."""

    tokens = ('query', 'key', 'value')
    reads = ('in_proj_weight',)
    writes = ('out_proj.weight', 'out_proj.bias')

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether query, key and value share one weight, and no further keys are added."""
        same = layer.kdim == layer.vdim == layer.embed_dim
        return same and layer.bias_k is None and not layer.add_zero_attn

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the tokens and of the output at full width."""
        return self.embed_dim, self.embed_dim

    def projections(self, channels: int) -> Projections:
        """The active part of the projections for the channels of the tokens."""
        heads, inputs = self.heads(self.head_dim), self.in_segments or (Segment(self.embed_dim),)
        in_weight = take(self.in_proj_weight, (heads, heads, heads), self.width)
        if channels != self.embed_dim:
            in_weight = take(in_weight, inputs, self.width, 1)
        out_weight = take(take(self.out_proj.weight, (heads,), self.width, 1), self.out_segments, self.width)
        in_bias, out_bias = self.in_proj_bias, self.out_proj.bias
        if in_bias is not None:
            in_bias = take(in_bias, (heads, heads, heads), self.width)
            out_bias = take(out_bias, self.out_segments, self.width)
        return in_weight, in_bias, out_weight, out_bias

    @slimmable_forward
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Let the active heads attend.

        Args:
            query: As ``nn.MultiheadAttention``, with C all channels or those that are active at the width.
            key: With the same channels.
            value: With the same channels.
            *args: As ``nn.MultiheadAttention``.
            **kwargs: As ``nn.MultiheadAttention``.

        Returns:
            As ``nn.MultiheadAttention``, with the active output channels.

        Raises:
            ValueError: For other numbers of channels, or for tokens without a batch where heads slim.
        """
        channels = channel_count(query, -1)
        for tokens in (query, key, value):
            self.check_channels(channel_count(tokens, -1))
        if self.is_full(channels):
            return nn.MultiheadAttention.forward(self, query, key, value, *args, **kwargs)
        if query.dim() != 3:
            raise ValueError(
                f'{self} needs tokens with a batch, of 3 dimensions, at width {self.width:g}, but query has '
                f'{query.dim()}: add one with unsqueeze'
            )
        return super().forward(query, key, value, *args, **kwargs)

    def own_parameters(self, channels: int) -> int:
        """The number of its active parameters, without those of its parts."""
        inside = sum(parameter.numel() for parameter in self.out_proj.parameters())
        return sum(value.numel() for value in self.projections(channels) if value is not None) - inside

    def narrowed(self, channels: int) -> tuple[type[nn.Module] | None, dict]:
        """The narrow layer of the width."""
        heads, size = self.active_heads, self.head_dim
        names = ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')
        values = dict(zip(names, self.projections(channels)))
        values |= dict(num_heads=heads, head_dim=size, embed_dim=channels, kdim=channels, vdim=channels)
        values |= {'out_proj.in_features': heads * size, 'out_proj.out_features': values['out_proj.weight'].size(0)}
        is_stock = heads * size == channels == values['out_proj.out_features']
        return None if is_stock else DecoupledMultiheadAttention, values


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """What a mask adds to scores: minus infinity where it is True, or its values."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -math.inf)
