"""Slimmable ``nn.MultiheadAttention``."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..forward import slimmable_forward
from ..frozen import operands_of
from ..inputs import channel_count
from ..stock_forward import stock_forward
from .base import SlimAttention


class DecoupledMultiheadAttention(nn.MultiheadAttention):
    """A multi-head attention whose heads have ``head_dim`` channels, whatever the tokens have.

    The stock layer divides the tokens' channels by the number of heads.
    """

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
        weights, biases = self.in_proj_weight.chunk(3), (None, None, None)
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
        heads = weights[0].size(0) // self.head_dim
        query, key, value = (
            F.linear(tokens, weight, bias).unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
            for tokens, weight, bias in zip((query, key, value), weights, biases)
        )  # (N, heads, L or S, head_dim)
        scores = (query / math.sqrt(self.head_dim)) @ key.transpose(-2, -1)
        if attn_mask is not None:
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.unflatten(0, (len(query), -1))[:, :heads]
            scores = scores + _added(attn_mask, scores)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask, scores)[:, None, None]
        scores = F.dropout(scores.softmax(-1), self.dropout, self.training)
        output = self.out_proj((scores @ value).transpose(1, 2).flatten(2))
        if not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, scores.mean(1) if average_attn_weights else scores


class SlimMultiheadAttention(SlimAttention, DecoupledMultiheadAttention):
    """A multi-head attention with the first of its heads."""

    sides: ClassVar = {
        'in_proj_weight': 'qi',
        'in_proj_bias': 'q',
        'out_proj.weight': 'oh',
        'out_proj.bias': 'o',
    }
    tokens: ClassVar = ('query', 'key', 'value')

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether query, key and value share one weight, and no further keys are added."""
        same = layer.kdim == layer.vdim == layer.embed_dim
        return same and layer.bias_k is None and not layer.add_zero_attn

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the tokens and of the output at full width."""
        return self.embed_dim, self.embed_dim

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
        operands = operands_of(self, query.shape[-1])
        for tokens in (key, value):
            if tokens.shape[-1] != query.shape[-1]:
                self.check_channels(channel_count(tokens, -1))
        if operands is None:
            return nn.MultiheadAttention.forward(self, query, key, value, *args, **kwargs)
        if query.dim() != 3:
            raise ValueError(
                f'{self} needs tokens with a batch, of 3 dimensions, at width {self.width:g}, but query has '
                f'{query.dim()}: add one with unsqueeze'
            )
        return stock_forward(self, operands, query, key, value, *args, **kwargs)

    def active_operands(self, key: int) -> dict[str, Tensor] | None:
        """The active part of the tensors, by name; None if the stock layer computes the input."""
        self.check_channels(key)
        return None if self.runs_stock(key) else self.active_tensors(key)

    def active_sizes(self, channels: int) -> dict[str, int]:
        """The attributes of the narrow layer that count its channels and heads."""
        return dict(num_heads=self.active_heads, embed_dim=channels, kdim=channels, vdim=channels)

    def narrow_class(self, channels: int) -> type[nn.Module] | None:
        """The class with decoupled heads if some are left out: a stock layer refuses masks that are for all heads."""
        return None if self.runs_stock(channels) else DecoupledMultiheadAttention


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """The numbers that a mask adds to scores: minus infinity where it is True, or its values."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -math.inf)
