"""Slimmable multi-scale deformable attention, as in Deformable DETR and the detectors after it."""

from __future__ import annotations

from typing import Any

from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn

from ..forward import slimmable_forward
from ..inputs import channel_count
from .base import SlimAttention, divide_linear


class SlimMultiScaleDeformableAttention(SlimAttention, MultiScaleDeformableAttention):
    """mmcv's deformable attention with the first of its heads, each with its sampling points.

    The computation is mmcv's, which depends on the number of heads alone.
    """

    tokens = ('query', 'value', 'identity', 'query_pos')
    reads = ('sampling_offsets.weight', 'attention_weights.weight', 'value_proj.weight')
    writes = ('output_proj.weight', 'output_proj.bias')
    residual = True

    @property
    def num_heads(self) -> int:
        """Heads at the width."""
        return self.active_heads if 'out_segments' in self.__dict__ else self.all_heads

    @num_heads.setter
    def num_heads(self, heads: int) -> None:
        self.__dict__['num_heads'] = heads

    @property
    def all_heads(self) -> int:
        """Heads at full width."""
        return self.__dict__['num_heads']

    def parts(self) -> list[nn.Module]:
        """The projections, and what places and weighs the sampling points."""
        return [self.sampling_offsets, self.attention_weights, self.value_proj, self.output_proj]

    def divide_parts(self) -> None:
        """Everything lies head by head."""
        for part in (self.sampling_offsets, self.attention_weights, self.value_proj):
            divide_linear(part, self.in_segments, (self.heads(part.out_features // self.all_heads),))
        size = self.output_proj.in_features // self.all_heads
        divide_linear(self.output_proj, (self.heads(size),), self.out_segments)

    @slimmable_forward
    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Let the active heads attend.

        Args:
            query: As mmcv's, with C all channels or those that are active at the width.
            *args: As mmcv's, with the same channels.
            **kwargs: As mmcv's, with the same channels.

        Returns:
            The shape of ``query``.

        Raises:
            ValueError: For another C.
        """
        self.check_channels(channel_count(query, -1))
        return super().forward(query, *args, **kwargs)

    def narrowed(self, channels: int) -> tuple[type[nn.Module] | None, dict]:
        """The narrow layer of the width, which is a stock one."""
        return None, dict(num_heads=self.active_heads, embed_dims=channels)
