"""Slimmable HRNet."""

from __future__ import annotations

from mmdet.models.backbones import HRNet
from mmdet.registry import MODELS

from .base import SlimmableBackbone


@MODELS.register_module()
class SlimmableHRNet(SlimmableBackbone, HRNet):
    """mmdet's HRNet, slimmable in each of its branches."""
