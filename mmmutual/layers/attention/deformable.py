"""Slimmable multi-scale deformable attention, as in Deformable DETR and the detectors after it."""

from __future__ import annotations

from typing import Any, ClassVar

from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor

from ..forward import slimmable_forward
from ..frozen import operands_of
from ..stock_forward import stock_forward
from .base import SlimAttention


class SlimMultiScaleDeformableAttention(SlimAttention, MultiScaleDeformableAttention):
    """mmcv's deformable attention with the first of its heads, each with its sampling points."""

    sides: ClassVar = {
        'sampling_offsets.weight': 'hi',
        'sampling_offsets.bias': 'h',
        'attention_weights.weight': 'hi',
        'attention_weights.bias': 'h',
        'value_proj.weight': 'hi',
        'value_proj.bias': 'h',
        'output_proj.weight': 'oh',
        'output_proj.bias': 'o',
    }
    tokens: ClassVar = ('query', 'value', 'identity', 'query_pos')
    residual: ClassVar = True

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
        return stock_forward(self, operands_of(self, query.shape[-1]), query, *args, **kwargs)
