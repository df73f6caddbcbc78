"""Slimmable counterparts of mmpretrain's layers, for where mmpretrain is installed."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmpretrain.models.utils.attention import MultiheadAttention, WindowMSA, WindowMSAV2
from mmpretrain.models.utils.norm import GRN, LayerNorm2d
from torch import Tensor, nn

from .attention.base import SlimAttention
from .attention.window import DecoupledHeads, SlimWindowAttention
from .forward import slimmable_forward
from .frozen import operands_of
from .layer_norm import SlimLayerNorm
from .stock_forward import stock_forward
from .stock_norms import StockNorm
from .swap import COUNTERPARTS


class SlimLayerNorm2d(SlimLayerNorm, LayerNorm2d):
    """mmpretrain's layer norm of maps, with the channels first or last."""

    def active_sizes(self, channels: int) -> dict[str, Any]:
        """The attributes of the narrow norm that count the channels of an input."""
        return {**super().active_sizes(channels), 'num_channels': channels}

    @slimmable_forward
    def forward(self, x: Tensor, data_format: str = 'channel_first') -> Tensor:
        """Normalise the active channels.

        Args:
            x: (N, C, H, W), or (N, H, W, C) for ``'channel_last'``.
            data_format: ``'channel_first'`` or ``'channel_last'``.

        Returns:
            The same shape as ``x``.

        Raises:
            ValueError: If C is neither all channels nor the active ones.
        """
        if data_format == 'channel_last':
            return self.normalised(x)
        return self.normalised(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class SlimGRN(StockNorm, GRN):
    """mmpretrain's global response norm of ConvNeXt V2, relative to the mean of the active channels."""

    size_name: ClassVar = 'in_channels'

    @slimmable_forward
    def forward(self, x: Tensor, data_format: str = 'channel_first') -> Tensor:
        """Normalise the active channels.

        Args:
            x: (N, C, H, W), or (N, H, W, C) for ``'channel_last'``.
            data_format: ``'channel_first'`` or ``'channel_last'``.

        Returns:
            The same shape as ``x``.

        Raises:
            ValueError: If C is neither all channels nor the active ones.
        """
        channels = x.shape[-1 if data_format == 'channel_last' else 1]
        return stock_forward(self, operands_of(self, channels), x, data_format=data_format)


class DecoupledWindowMSA(DecoupledHeads, WindowMSA):
    """mmpretrain's window attention with heads of ``head_dims`` channels, as a narrow network has them."""


class SlimWindowMSA(SlimWindowAttention, DecoupledWindowMSA):
    """mmpretrain's window attention with the first of its heads."""

    stock: ClassVar = WindowMSA
    decoupled: ClassVar = DecoupledWindowMSA


class DecoupledWindowMSAV2(DecoupledHeads, WindowMSAV2):
    """mmpretrain's window attention of Swin V2 with heads of ``head_dims`` channels.

    A small network computes the biases of all heads; those of the first are used.
    """

    def projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values of the tokens; keys have no bias."""
        if self.q_bias is None:
            return F.linear(x, self.qkv.weight)
        return F.linear(x, self.qkv.weight, torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias)))

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """The scaled cosines of queries and keys."""
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        return F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * scale

    def position_bias(self, heads: int) -> Tensor:
        """The bias (relative positions, heads)."""
        return 16 * self.cpb_mlp(self.relative_coords_table).flatten(0, -2)[:, :heads].sigmoid()


class SlimWindowMSAV2(SlimWindowAttention, DecoupledWindowMSAV2):
    """mmpretrain's window attention of Swin V2 with the first of its heads."""

    sides: ClassVar = {
        'qkv.weight': 'qi',
        'q_bias': 'h',
        'v_bias': 'h',
        'logit_scale': 'h--',
        'proj.weight': 'oh',
        'proj.bias': 'o',
        'cpb_mlp.0.weight': '--',
        'cpb_mlp.0.bias': '-',
        'cpb_mlp.2.weight': '--',
        'relative_coords_table': '----',
        'relative_position_index': '--',
    }
    stock: ClassVar = WindowMSAV2
    decoupled: ClassVar = DecoupledWindowMSAV2

    def narrow_class(self, channels: int) -> type[nn.Module] | None:
        """The class with decoupled heads, unless all heads are active: the network for biases has all of them."""
        return None if self.runs_stock(channels) else self.decoupled


class SlimMultiheadAttention(SlimAttention, MultiheadAttention):
    """mmpretrain's attention of vision transformers with the first of its heads."""

    sides: ClassVar = {
        'qkv.weight': 'qi',
        'qkv.bias': 'q',
        'proj.weight': 'oh',
        'proj.bias': 'o',
        'gamma1.weight': 'o',
    }
    tokens: ClassVar = ('x',)

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether it adds no values, whose channels are those of the heads, to its output."""
        return not layer.v_shortcut

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the tokens and of the output at full width."""
        return self.input_dims, self.embed_dims

    def active_sizes(self, channels: int) -> dict[str, int]:
        """The attributes of the narrow layer that count its channels and heads."""
        heads = self.active_heads
        return dict(num_heads=heads, embed_dims=heads * self.head_size, input_dims=channels)

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Let the active heads attend.

        Args:
            x: (N, tokens, C) with C all channels or those that are active at the width.

        Returns:
            (N, tokens, K) with K the active output channels.

        Raises:
            ValueError: For another C.
        """
        return stock_forward(self, operands_of(self, x.shape[-1]), x)


COUNTERPARTS.update(
    {
        LayerNorm2d: SlimLayerNorm2d,
        GRN: SlimGRN,
        WindowMSA: SlimWindowMSA,
        WindowMSAV2: SlimWindowMSAV2,
        MultiheadAttention: SlimMultiheadAttention,
    }
)
