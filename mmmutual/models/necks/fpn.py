"""Slimmable feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.necks import FPN
from mmdet.registry import MODELS

from ..conversion import check_all_slim, slim_conv_cfg, slim_norm_cfg


@MODELS.register_module()
class SlimmableFPN(FPN):
    """mmdet's FPN over a backbone whose levels have the first of their channels.

    By default only the inputs slim: the lateral convolutions (and an extra level computed from the input) use the
    weights of the channels that are there. The outputs always have ``out_channels`` channels, so all sub-networks share
    the heads, as in the paper. With ``slim_out`` the outputs slim too; then the heads have to be slimmable, as
    ``SlimmableDetector`` with ``slim='detector'`` makes them.

    Args:
        *args: As mmdet's FPN.
        slim_out: Whether the outputs slim.
        widths: The backbone's grid of widths; needed only if ``norm_cfg`` is a batch norm.
        conv_cfg: None or a plain convolution.
        norm_cfg: None, BN, SyncBN or GN.
        **kwargs: As mmdet's FPN.

    Raises:
        ValueError: For an option that cannot slim, or a batch norm without ``widths``.
    """

    def __init__(
        self,
        *args,
        slim_out: bool = False,
        widths: Sequence[float] | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        owner = type(self).__name__
        super().__init__(
            *args,
            conv_cfg=slim_conv_cfg(conv_cfg, owner, slim_out=slim_out),
            norm_cfg=None if norm_cfg is None else slim_norm_cfg(norm_cfg, widths, owner),
            **kwargs,
        )
        check_all_slim(self)
