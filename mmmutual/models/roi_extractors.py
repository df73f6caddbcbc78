"""RoI extractors that give as many channels as the features have."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


class FollowsFeatures:
    """First base of a RoI extractor; the second is mmdet's, which counts on ``out_channels`` in its features."""

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool RoI features.

        Args:
            feats: Levels (N, C, H, W), with C at most ``out_channels``.
            rois: (K, 5): image index and box in pixels.
            roi_scale_factor: As mmdet's.

        Returns:
            (K, C, h, w).
        """
        full, self.out_channels = self.out_channels, feats[0].size(1)
        try:
            return super().forward(feats, rois, roi_scale_factor)
        finally:
            self.out_channels = full


@MODELS.register_module()
class SlimmableSingleRoIExtractor(FollowsFeatures, SingleRoIExtractor):
    """mmdet's SingleRoIExtractor behind a neck whose outputs slim."""


@MODELS.register_module()
class SlimmableGenericRoIExtractor(FollowsFeatures, GenericRoIExtractor):
    """mmdet's GenericRoIExtractor behind a neck whose outputs slim."""
