"""Slimmable feature pyramid network."""

from __future__ import annotations

from mmdet.models.necks import FPN
from mmdet.registry import MODELS

from .base import SlimmableNeck


@MODELS.register_module()
class SlimmableFPN(SlimmableNeck, FPN):
    """mmdet's FPN over a backbone whose levels have the first of their channels.

    The lateral convolutions, and an extra level computed from the input, use the channels that arrive.
    """
