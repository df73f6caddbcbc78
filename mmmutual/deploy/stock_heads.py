"""The stock counterpart of a ``SlimmableDetector`` at one width, its heads included."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS

from mmmutual.layers import active_channels

HIDDEN = ('feat_channels', 'conv_out_channels', 'fc_out_channels')  # how mmdet's heads call their hidden channels
CHANNELS = ('in_channels', *HIDDEN, 'out_channels')
SLIMMABLE = {'ResNet': 'SlimmableResNet', 'FPN': 'SlimmableFPN'}


def stock_detector(cfg: Mapping, width: float) -> dict:
    """Config of the detector that a ``SlimmableDetector`` is at a width, but for backbone and neck.

    Args:
        cfg: Config of the ``SlimmableDetector``.
        width: Width multiplier in (0, 1].

    Returns:
        A config of the stock detector. Its heads are narrow if they slim; its backbone and neck are still those of the
        slimmable classes.
    """
    stock = {**cfg, 'type': cfg['detector']}
    whole, widths = stock.pop('slim', 'backbone') == 'detector', stock.pop('widths')
    del stock['detector']
    if stock['backbone']['type'] in SLIMMABLE:
        stock['backbone'] = {**stock['backbone'], 'type': SLIMMABLE[stock['backbone']['type']], 'widths': widths}
    neck = stock.get('neck')
    if isinstance(neck, Mapping) and neck['type'] in SLIMMABLE:
        stock['neck'] = {**neck, 'type': SLIMMABLE[neck['type']], 'slim_out': whole}
    if not whole:
        return stock
    return {key: narrow_head(value, width) if key.endswith('head') else value for key, value in stock.items()}


def narrow_head(cfg: Any, width: float) -> Any:
    """A head's config, or a RoI extractor's, with as many channels as it has at a width.

    Args:
        cfg: Config of a head; in a RoI head those of its parts narrow.
        width: Width multiplier in (0, 1].

    Returns:
        The narrow config; settings that the config leaves to their defaults are spelled out where they narrow.
    """
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(narrow_head(item, width) for item in cfg)
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        return cfg
    parts = {key: narrow_head(value, width) for key, value in cfg.items() if key.endswith(('_head', '_extractor'))}
    full = {**_defaults(cfg['type']), **cfg}
    narrow = {key: active_channels(full[key], width) for key in CHANNELS if isinstance(full.get(key), int)}
    hidden = next((key for key in HIDDEN if key in narrow), None)
    if hidden and isinstance(full.get('norm_cfg'), Mapping):
        narrow['norm_cfg'] = narrow_groups(full['norm_cfg'], full[hidden], narrow[hidden])
    return {**cfg, **narrow, **parts}


def narrow_groups(norm_cfg: Mapping, channels: int, active: int) -> dict:
    """A ``norm_cfg`` whose groups, if it has any, stay as large as they are.

    Args:
        norm_cfg: The config of a norm over ``channels`` channels.
        channels: Channels at full width.
        active: Channels at the width.

    Returns:
        The config for ``active`` channels.
    """
    if 'num_groups' not in norm_cfg:
        return dict(norm_cfg)
    return {**norm_cfg, 'num_groups': norm_cfg['num_groups'] * active // channels}


def _defaults(kind: str | type) -> dict[str, Any]:
    """Default settings of a head that are channels or a norm; those of a subclass go before its base's."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(MODELS.get(kind) if isinstance(kind, str) else kind):
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            if name in (*HIDDEN, 'norm_cfg') and parameter.default not in (inspect.Parameter.empty, None):
                found.setdefault(name, parameter.default)
    return found
