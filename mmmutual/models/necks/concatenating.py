"""Slimmable necks that concatenate levels: HRFPN (HRNet), YOLOV3Neck, YOLOXPAFPN and CSPNeXtPAFPN (RTMDet)."""

from __future__ import annotations

from mmdet.models.necks import HRFPN, YOLOXPAFPN, CSPNeXtPAFPN, YOLOV3Neck
from mmdet.registry import MODELS

from .base import SlimmableNeck


@MODELS.register_module()
class SlimmableHRFPN(SlimmableNeck, HRFPN):
    """mmdet's HRFPN behind a slimmable HRNet."""


@MODELS.register_module()
class SlimmableYOLOV3Neck(SlimmableNeck, YOLOV3Neck):
    """mmdet's neck of YOLOv3 behind a slimmable Darknet."""


@MODELS.register_module()
class SlimmableYOLOXPAFPN(SlimmableNeck, YOLOXPAFPN):
    """mmdet's neck of YOLOX behind a slimmable CSPDarknet."""


@MODELS.register_module()
class SlimmableCSPNeXtPAFPN(SlimmableNeck, CSPNeXtPAFPN):
    """mmdet's neck of RTMDet behind a slimmable CSPNeXt."""
