"""Slimmable necks that concatenate levels: HRFPN (HRNet), YOLOV3Neck, YOLOXPAFPN and CSPNeXtPAFPN (RTMDet)."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.necks import HRFPN, YOLOXPAFPN, CSPNeXtPAFPN, YOLOV3Neck
from mmdet.registry import MODELS
from mmengine.model import BaseModule

from mmmutual.layers import can_slim, check_ratios, slim_layer_

from ..conversion import check_all_slim
from ..rules import all_outputs, divide_inputs


class SlimmableNeck(BaseModule):
    """First base of a slimmable neck; the second is mmdet's.

    Its layers take the channels that arrive and give all of theirs, so all sub-networks share the heads. Where a level
    of the backbone is concatenated, the weights of its active channels are used.

    Args:
        *args: As mmdet's neck.
        widths: The backbone's grid of widths.
        **kwargs: As mmdet's neck.

    Raises:
        ValueError: If ``widths`` is invalid, or for an option that cannot slim.
    """

    def __init__(self, *args, widths: Sequence[float], **kwargs) -> None:
        widths = check_ratios(widths)
        super().__init__(*args, **kwargs)
        for layer in self.modules():
            if can_slim(layer):
                grouped = getattr(layer, 'groups', 1) > 1  # groups follow their input
                slim_layer_(layer, widths, outputs=None if grouped else all_outputs(layer))
        divide_inputs(self)
        check_all_slim(self)


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
