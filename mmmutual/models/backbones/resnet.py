"""Slimmable ResNet and its relatives (MutualNet, arXiv 1909.12978, section 3; TPAMI version arXiv 2105.07085)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.backbones import RegNet, Res2Net, ResNet, ResNetV1d, ResNeXt
from mmdet.registry import MODELS

from .base import SlimmableBackbone


@MODELS.register_module()
class SlimmableResNet(SlimmableBackbone, ResNet):
    """mmdet's ResNet whose layers run on the first of their channels.

    At width 1.0 it is mmdet's ResNet bit for bit, with its parameter names. At width w every layer uses its first
    channels: w times their number, rounded to a multiple of 8. Where rounding changes nothing, as for 0.75, 0.5 and
    0.25, it is ``ResNet(base_channels=w * 64)`` with the first channels of every weight.

    Args:
        depth: 18, 34, 50, 101 or 152.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        **kwargs: All other arguments of mmdet's ResNet, as ``SlimmableBackbone`` accepts them.

    Raises:
        ValueError: If ``widths`` is invalid.

    Examples:
        >>> backbone = SlimmableResNet(18, widths=(1.0, 0.5))
        >>> mmmutual.set_width(backbone, 0.5)
        >>> [tuple(level.shape) for level in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4), (1, 256, 2, 2)]
    """

    def __init__(self, depth: int, widths: Sequence[float], **kwargs: Any) -> None:
        super().__init__(depth, widths=widths, **kwargs)


@MODELS.register_module()
class SlimmableResNetV1d(SlimmableBackbone, ResNetV1d):
    """mmdet's ResNetV1d (deep stem, average pooling in the shortcuts), slimmable."""


@MODELS.register_module()
class SlimmableResNeXt(SlimmableBackbone, ResNeXt):
    """mmdet's ResNeXt, slimmable: a narrow block has fewer groups of the same size."""


@MODELS.register_module()
class SlimmableRegNet(SlimmableBackbone, RegNet):
    """mmdet's RegNet, slimmable: a narrow block has fewer groups of the same size, and at least one."""


@MODELS.register_module()
class SlimmableRes2Net(SlimmableBackbone, Res2Net):
    """mmdet's Res2Net, slimmable in each of the pieces that its blocks split their channels into."""
