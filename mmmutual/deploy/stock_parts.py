"""The stock counterparts of slimmable backbones and necks at one width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmdet.registry import MODELS
from torch import nn

from mmmutual.layers import SlimConv2d, SlimGroupNorm, active_channels
from mmmutual.layers.channels import DIVISOR

from .stock_heads import narrow_groups

BASE_CHANNELS = 64  # of mmdet's ResNet


def stock_resnet(cfg: Mapping, width: float) -> dict:
    """Config of the ``ResNet`` that a ``SlimmableResNet`` is at a width.

    Args:
        cfg: Config of the ``SlimmableResNet``.
        width: Width multiplier in (0, 1].

    Returns:
        A config without initial weights, whose norms are still those of ``cfg``.

    Raises:
        ValueError: If the channels at this width are not ``base_channels`` x 2^i, with the nearest widths where they
            are.
    """
    with torch.device('meta'):
        backbone = MODELS.build(dict(cfg))
    base = cfg.get('base_channels', BASE_CHANNELS)
    if not _is_uniform(backbone, base, width):
        raise ValueError(_nearest_widths(backbone, base, width))
    narrow = active_channels(base, width)
    stock = {**cfg, 'type': 'ResNet', 'base_channels': narrow, 'init_cfg': None}
    del stock['widths']
    if stock.get('stem_channels') is not None:
        stock['stem_channels'] = stock['stem_channels'] * narrow // base
    if 'num_groups' in stock.get('norm_cfg', {}):
        stock['norm_cfg'] = narrow_groups(stock['norm_cfg'], base, narrow)
    return stock


def stock_fpn(cfg: Mapping, width: float) -> dict:
    """Config of the ``FPN`` that a ``SlimmableFPN`` is behind a backbone of a width.

    Args:
        cfg: Config of the ``SlimmableFPN``.
        width: Width multiplier in (0, 1].

    Returns:
        A config whose norms are still those of ``cfg``.
    """
    in_channels = [active_channels(channels, width) for channels in cfg['in_channels']]
    stock = {**cfg, 'type': 'FPN', 'in_channels': in_channels}
    stock.pop('widths', None)
    if stock.pop('slim_out', False):
        stock['out_channels'] = active_channels(cfg['out_channels'], width)
        if stock.get('norm_cfg') is not None:
            stock['norm_cfg'] = narrow_groups(stock['norm_cfg'], cfg['out_channels'], stock['out_channels'])
    return stock


def _is_uniform(backbone: nn.Module, base: int, width: float) -> bool:
    """Whether all layers narrow by the ratio that the base does, as ``base_channels`` narrows a stock network."""
    narrow = active_channels(base, width)
    return all(
        active_channels(layer.out_channels, width) * base == layer.out_channels * narrow
        if isinstance(layer, SlimConv2d)
        else layer.num_groups * narrow % base == 0
        for layer in backbone.modules()
        if isinstance(layer, (SlimConv2d, SlimGroupNorm))
    )


def _nearest_widths(backbone: nn.Module, base: int, width: float) -> str:
    """The message that names the nearest widths that a stock network can have."""
    bases = [*range(DIVISOR, base, DIVISOR), base]
    widths = [round(channels / base, 4) for channels in bases]
    widths = [each for each in widths if _is_uniform(backbone, base, each)]
    nearest = [*[each for each in widths if each < width][-1:], *[each for each in widths if each > width][:1]]
    return (
        f'width {width:g} has no stock ResNet: there channels are base_channels x 2^i, and rounding to multiples of '
        f'{DIVISOR} gives others at this width. The nearest widths that can be exported are '
        f'{" and ".join(f"{each:g}" for each in nearest)}; calibrate the checkpoint for one that it lacks with '
        'tools/misc/calibrate.py --widths'
    )
