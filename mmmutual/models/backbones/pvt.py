"""Slimmable Pyramid Vision Transformers (PVT)."""

from __future__ import annotations

from mmdet.models.backbones import PyramidVisionTransformer, PyramidVisionTransformerV2
from mmdet.registry import MODELS

from .base import SlimmableBackbone


@MODELS.register_module(name=['SlimmablePyramidVisionTransformer', 'SlimmablePVT'])
class SlimmablePyramidVisionTransformer(SlimmableBackbone, PyramidVisionTransformer):
    """mmdet's PyramidVisionTransformer, slimmable: tokens, position embeddings, hidden layers and heads.

    A head keeps its channels. Each stage has the width times its heads, rounded, and at least one.
    """


@MODELS.register_module(name=['SlimmablePyramidVisionTransformerV2', 'SlimmablePVTv2'])
class SlimmablePyramidVisionTransformerV2(SlimmableBackbone, PyramidVisionTransformerV2):
    """mmdet's PyramidVisionTransformerV2, slimmable: tokens, hidden layers and heads."""


SlimmablePVT = SlimmablePyramidVisionTransformer
SlimmablePVTv2 = SlimmablePyramidVisionTransformerV2
