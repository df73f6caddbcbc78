"""Slimmable ResNet backbone (MutualNet, arXiv 1909.12978, section 3; TPAMI version arXiv 2105.07085)."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS

from mmmutual.layers import check_ratios

from ..conversion import check_all_slim, slim_conv_cfg, slim_norm_cfg


@MODELS.register_module()
class SlimmableResNet(ResNet):
    """mmdet's ResNet whose layers run on the first of their channels.

    At width 1.0 it is mmdet's ResNet bit for bit, with its parameter names. At width w every layer uses its first
    channels, w times their number rounded to a multiple of 8; where that takes no rounding, as for 0.75, 0.5 and 0.25,
    it is ``ResNet(base_channels=w * 64)`` with the first channels of every weight.

    Args:
        depth: 18, 34, 50, 101 or 152.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        conv_cfg: None or a plain convolution; it becomes :class:`~mmmutual.layers.SlimConv2d`.
        norm_cfg: BN, SyncBN or GN; it becomes its slimmable counterpart.
        dcn: Not supported: a deformable convolution does not slim.
        plugins: Not supported, for the same reason.
        **kwargs: All other arguments of mmdet's ResNet.

    Raises:
        ValueError: If ``widths`` is invalid, or for an option that cannot slim.

    Example:
        >>> backbone = SlimmableResNet(50, widths=(1.0, 0.5))
        >>> mmmutual.set_width(backbone, 0.5)
        >>> [tuple(level.shape) for level in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4), (1, 1024, 2, 2)]
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[float],
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),  # noqa: B006 (as in mmdet)
        dcn: dict | None = None,
        plugins: list[dict] | None = None,
        **kwargs,
    ) -> None:
        owner = type(self).__name__
        self.widths = check_ratios(widths)
        if dcn is not None:
            raise ValueError(f'{owner} cannot slim dcn={dcn}: leave dcn and stage_with_dcn out')
        if plugins is not None:
            kinds = [plugin.get('cfg', {}).get('type') for plugin in plugins]
            raise ValueError(f'{owner} cannot slim plugins {kinds}: leave plugins out')
        super().__init__(
            depth,
            conv_cfg=slim_conv_cfg(conv_cfg, owner),
            norm_cfg=slim_norm_cfg(norm_cfg, self.widths, owner),
            **kwargs,
        )
        check_all_slim(self)
