"""Slimmable Swin transformer."""

from __future__ import annotations

from mmdet.registry import MODELS

from mmmutual.slimming.blocks import CountingSwin

from .base import SlimmableBackbone


@MODELS.register_module(name=['SlimmableSwinTransformer', 'SlimmableSwin'])
class SlimmableSwinTransformer(SlimmableBackbone, CountingSwin):
    """mmdet's SwinTransformer, slimmable: tokens, hidden layers and heads.

    A head keeps its channels. Each stage has the width times its heads, rounded, whatever the channels of its tokens
    are. Where no number is rounded, as at width 2/3 of ``embed_dims=96`` and ``num_heads=(3, 6, 12, 24)``, it is
    ``SwinTransformer(embed_dims=64, num_heads=(2, 4, 8, 16))`` with the first channels of every weight.

    Examples:
        >>> backbone = SlimmableSwinTransformer(depths=(2, 2, 2, 2), widths=(1.0, 0.5))
        >>> mmmutual.set_width(backbone, 0.5)
        >>> [tuple(level.shape) for level in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 48, 16, 16), (1, 96, 8, 8), (1, 192, 4, 4), (1, 384, 2, 2)]
    """


SlimmableSwin = SlimmableSwinTransformer
