"""Slimmable backbones of the YOLO family: Darknet (YOLOv3), CSPDarknet (YOLOX) and CSPNeXt (RTMDet)."""

from __future__ import annotations

from mmdet.models.backbones import CSPDarknet, CSPNeXt, Darknet
from mmdet.registry import MODELS

from .base import SlimmableBackbone


@MODELS.register_module()
class SlimmableDarknet(SlimmableBackbone, Darknet):
    """mmdet's Darknet, slimmable."""


@MODELS.register_module()
class SlimmableCSPDarknet(SlimmableBackbone, CSPDarknet):
    """mmdet's CSPDarknet, slimmable: each part of a concatenation slims."""


@MODELS.register_module()
class SlimmableCSPNeXt(SlimmableBackbone, CSPNeXt):
    """mmdet's CSPNeXt, slimmable: each part of a concatenation slims, and so does the channel attention."""
