"""What all slimmable backbones share: their constructor."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import nn

from mmmutual.layers import check_ratios, slim_layer_

from ..conversion import check_all_slim, slim_conv_cfg, slim_norm_cfg
from ..layout import lay_out


class SlimmableBackbone(BaseModule):
    """First base of a slimmable backbone; the second is mmdet's, whose layers then run on the first of their channels.

    At width 1.0 it is mmdet's backbone bit for bit, with its parameter names.

    Args:
        *args: As mmdet's backbone.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        conv_cfg: None or a plain convolution; it becomes :class:`~mmmutual.layers.SlimConv2d`.
        norm_cfg: BN, SyncBN or GN; it becomes its slimmable counterpart. None is the backbone's own default.
        **kwargs: All other arguments of mmdet's backbone, but neither ``dcn`` nor ``plugins``.

    Raises:
        ValueError: If ``widths`` is invalid, or for an option that cannot slim.
    """

    def __init__(
        self, *args, widths: Sequence[float], conv_cfg: dict | None = None, norm_cfg: dict | None = None, **kwargs
    ) -> None:
        owner = type(self).__name__
        self.widths = check_ratios(widths)
        if kwargs.get('dcn') is not None:
            raise ValueError(f'{owner} cannot slim dcn={kwargs["dcn"]}: leave dcn and stage_with_dcn out')
        if kwargs.get('plugins') is not None:
            kinds = [plugin.get('cfg', {}).get('type') for plugin in kwargs['plugins']]
            raise ValueError(f'{owner} cannot slim plugins {kinds}: leave plugins out')
        super().__init__(
            *args,
            conv_cfg=slim_conv_cfg(conv_cfg, owner),
            norm_cfg=slim_norm_cfg(norm_cfg or _default_norm(type(self)), self.widths, owner),
            **kwargs,
        )
        for layer in self.modules():
            if type(layer) is nn.Conv2d:  # some of CSPNeXt's are built without conv_cfg
                slim_layer_(layer, self.widths)
        lay_out(self)
        check_all_slim(self)


def _default_norm(backbone: type) -> dict:
    """The ``norm_cfg`` that the stock class has by default."""
    for base in backbone.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get('norm_cfg')
        if parameter is not None and isinstance(parameter.default, dict):
            return parameter.default
    return dict(type='BN')
