"""Counterparts of blocks that count channels themselves: they count the active ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmdet.models.backbones import SwinTransformer
from mmdet.models.backbones.pvt import AbsolutePositionEmbedding
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.layers import CdnQueryGenerator
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmmutual.layers import Segment

if TYPE_CHECKING:
    from torch.nn import Module as Block
else:
    Block = object  # a mix-in of blocks


class SplitsActiveChannels(Block):
    """First base of a Res2Net block: it splits the active channels, so each of its pieces slims."""

    @property
    def width(self) -> int:
        """Active channels of a piece; not the width multiplier, which is the layers'."""
        full = self.__dict__['width']
        if not getattr(self.conv1, 'slim_out', False):
            return full
        segments = self.conv1.out_segments
        active = sum(segment.active(self.conv1.width) for segment in segments)
        return full * active // sum(segment.channels for segment in segments)

    @width.setter
    def width(self, channels: int) -> None:
        self.__dict__['width'] = channels

    def narrow_values(self, width: float) -> dict[str, int]:
        """The attributes of the stock block of a width multiplier, at which the layers are."""
        return {'width': self.width}


class SlimBottle2neck(SplitsActiveChannels, Bottle2neck):
    """mmdet's Res2Net block, which splits the active channels."""


class CountsStages(Block):
    """First base of a backbone that counts the channels of its stages: it counts the active ones."""

    @property
    def num_features(self) -> list[int]:
        """Active channels of each stage behind its norm; all channels of a stage without one."""
        full = self.__dict__['num_features']
        return [active_or(getattr(self, f'norm{stage}', None), count) for stage, count in enumerate(full)]

    @num_features.setter
    def num_features(self, channels: list[int]) -> None:
        self.__dict__['num_features'] = channels

    def narrow_values(self, width: float) -> dict[str, list[int]]:
        """The attributes of the stock backbone of a width multiplier, at which the layers are."""
        return {'num_features': self.num_features}


def active_or(norm: nn.Module | None, channels: int) -> int:
    """Active channels of a norm, or ``channels`` where none slims, or at width 1.0: a plan may simulate a number."""
    segments: Sequence[Segment] | None = getattr(norm, 'segments', None)
    width: float = getattr(norm, 'width', 1.0)
    return channels if segments is None or width == 1.0 else sum(segment.active(width) for segment in segments)


class CountingSwin(CountsStages, SwinTransformer):
    """mmdet's Swin transformer, which counts active channels."""


class CountingPositionEmbedding(AbsolutePositionEmbedding):
    """PVT's position embedding, which counts active channels."""

    @property
    def pos_dim(self) -> int:
        """Active channels of the embedding."""
        return self.pos_embed.size(-1) if getattr(self, 'width', 1.0) < 1.0 else self.__dict__['pos_dim']

    @pos_dim.setter
    def pos_dim(self, channels: int) -> None:
        self.__dict__['pos_dim'] = channels

    def narrow_values(self, width: float) -> dict[str, int]:
        """The attributes of the stock block of a width multiplier."""
        return {'pos_dim': self.pos_dim}


class CountingQueryGenerator(CdnQueryGenerator):
    """DINO's generator of queries to denoise, which counts active channels."""

    @property
    def embed_dims(self) -> int:
        """Active channels of the label embedding."""
        full = self.__dict__['embed_dims']
        labels = getattr(self, 'label_embedding', None)  # none before it is built
        return full if labels is None else labels.weight.size(1)

    @embed_dims.setter
    def embed_dims(self, channels: int) -> None:
        self.__dict__['embed_dims'] = channels

    def narrow_values(self, width: float) -> dict[str, int]:
        """The attributes of the stock generator of a width multiplier."""
        return {'embed_dims': self.embed_dims}


class FollowsFeatures(Block):
    """First base of a RoI extractor; the second is mmdet's, which counts on ``out_channels`` in its features.

    Attributes:
        segments: The segments of the features; None is one run of channels.
    """

    out_channels: int
    segments: tuple[Segment, ...] | None = None

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

    def narrow_values(self, width: float) -> dict[str, int]:
        """The attributes of the stock extractor of a width multiplier."""
        segments = self.segments or (Segment(self.out_channels),)
        return {'out_channels': sum(segment.active(width) for segment in segments)}


@MODELS.register_module()
class SlimmableSingleRoIExtractor(FollowsFeatures, SingleRoIExtractor):
    """mmdet's SingleRoIExtractor behind a neck whose outputs slim."""


@MODELS.register_module()
class SlimmableGenericRoIExtractor(FollowsFeatures, GenericRoIExtractor):
    """mmdet's GenericRoIExtractor behind a neck whose outputs slim."""
