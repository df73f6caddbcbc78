"""Configure stock backbones, necks and heads with fewer channels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmdet.models.backbones import RegNet
from mmdet.registry import MODELS

from mmmutual.config_tree import type_name
from mmmutual.layers import active_channels

HIDDEN = ('feat_channels', 'conv_out_channels', 'fc_out_channels')  # hidden channels of mmdet's heads
CHANNELS = ('in_channels', *HIDDEN, 'out_channels', 'mid_channels')


def narrow_configs(model: Mapping, width: float) -> Iterator[dict]:
    """Candidate configs of stock detectors for a sub-network; the shapes of its weights decide between them.

    Args:
        model: Config of the stock detector at full width.
        width: Width multiplier in (0, 1].

    Yields:
        Configs with a narrow backbone: with a neck that accepts its channels, with heads that accept them too, and with
        a neck and heads that are also narrow inside.
    """
    start = dict(model, backbone={**narrow_backbone(model['backbone'], width), 'init_cfg': None})
    heads = {key: value for key, value in model.items() if key.endswith('head')}
    inputs = ('in_channels',)
    neck = {'neck': narrow_channels(model['neck'], width, inputs)} if model.get('neck') else {}
    yield {**start, **neck}
    yield {**start, **neck, **{key: narrow_channels(value, width, inputs) for key, value in heads.items()}}
    neck = {'neck': narrow_channels(model['neck'], width)} if model.get('neck') else {}
    yield {**start, **neck, **{key: narrow_channels(value, width) for key, value in heads.items()}}


def narrow_backbone(cfg: Mapping, width: float) -> dict:
    """The config of a backbone with the channels of a width, if its class has an argument for them.

    Args:
        cfg: Config of a stock backbone at full width.
        width: Width multiplier in (0, 1].

    Returns:
        The narrow config; the same config for a class without such an argument.
    """
    rule = BACKBONES.get(type_name(cfg))
    return {**cfg, **(rule({**_defaults(cfg['type']), **cfg}, width) if rule else {})}


def _resnet(full: Mapping, width: float) -> dict:
    """Channels are ``base_channels`` x 2^i."""
    base = full['base_channels']
    narrow: dict[str, Any] = dict(base_channels=active_channels(base, width))
    if full.get('stem_channels'):
        narrow['stem_channels'] = active_channels(full['stem_channels'], width)
    if 'num_groups' in full['norm_cfg']:
        narrow['norm_cfg'] = narrow_groups(full['norm_cfg'], base, narrow['base_channels'])
    return narrow


def _resnext(full: Mapping, width: float) -> dict:
    """Groups keep their size."""
    narrow = _resnet(full, width)
    return {**narrow, 'groups': full['groups'] * narrow['base_channels'] // full['base_channels']}


def _res2net(full: Mapping, width: float) -> dict:
    """The pieces of a split are slimmed separately."""
    return {**_resnet(full, width), 'base_width': active_channels(full['base_width'], width)}


def _regnet(full: Mapping, width: float) -> dict:
    """Both parameters of the line that determines the channels of the stages are scaled."""
    arch = RegNet.arch_settings[full['arch']] if isinstance(full['arch'], str) else full['arch']
    return {**_resnet(full, width), 'arch': {**arch, 'w0': arch['w0'] * width, 'wa': arch['wa'] * width}}


def _widen(full: Mapping, width: float) -> dict:
    """All channels are multiplied by one factor."""
    return dict(widen_factor=full['widen_factor'] * width)


def _swin(full: Mapping, width: float) -> dict:
    """Heads keep their size. A stock network fits where the heads of each stage have as many channels as its tokens."""
    dims = full['embed_dims']
    heads = [_heads(count, dims * 2**stage // count, width) for stage, count in enumerate(full['num_heads'])]
    return dict(embed_dims=active_channels(dims, width), num_heads=heads)


def _pvt(full: Mapping, width: float) -> dict:
    """As Swin; each head has ``embed_dims`` channels."""
    return dict(num_heads=[_heads(count, full['embed_dims'], width) for count in full['num_heads']])


def _heads(count: int, size: int, width: float) -> int:
    """The active ones of ``count`` heads of ``size`` channels."""
    return active_channels(count * size, width, size) // size


BACKBONES: dict[str, Callable[[Mapping, float], dict]] = {
    'ResNet': _resnet,
    'ResNetV1d': _resnet,
    'DetectoRS_ResNet': _resnet,
    'TridentResNet': _resnet,
    'ResNeSt': _resnet,
    'ResNeXt': _resnext,
    'DetectoRS_ResNeXt': _resnext,
    'Res2Net': _res2net,
    'RegNet': _regnet,
    'CSPDarknet': _widen,
    'CSPNeXt': _widen,
    'MobileNetV2': _widen,
    'SwinTransformer': _swin,
    'PyramidVisionTransformer': _pvt,
    'PyramidVisionTransformerV2': _pvt,
}


def narrow_channels(cfg: Any, width: float, names: tuple[str, ...] = CHANNELS) -> Any:
    """The config of a neck, a head or a RoI extractor with the channels of a width.

    Args:
        cfg: Config of a neck or a head, or a sequence of configs; in a RoI head the configs of its parts are changed.
        width: Width multiplier in (0, 1].
        names: The settings to change: numbers of channels, or sequences of numbers.

    Returns:
        The narrow config, in which changed defaults are spelled out.
    """
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(narrow_channels(item, width, names) for item in cfg)
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        return cfg
    # Not a walk through the whole config: only these settings are parts of a RoI head with channels.
    parts = {
        key: narrow_channels(value, width, names) for key, value in cfg.items() if key.endswith(('_head', '_extractor'))
    }
    full = {**_defaults(cfg['type']), **cfg}
    narrow = {key: _active(full[key], width) for key in names if _are_channels(full.get(key))}
    hidden = next((key for key in (*HIDDEN, 'out_channels') if isinstance(narrow.get(key), int)), None)
    if hidden and isinstance(full.get('norm_cfg'), Mapping):
        narrow['norm_cfg'] = narrow_groups(full['norm_cfg'], full[hidden], narrow[hidden])
    return {**cfg, **narrow, **parts}


def narrow_groups(norm_cfg: Mapping, channels: int, active: int) -> dict:
    """A ``norm_cfg`` for fewer channels whose groups, if it has any, keep their size.

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


def _are_channels(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, (list, tuple)) and all(isinstance(each, int) for each in value))


def _active(value: Any, width: float) -> Any:
    return active_channels(value, width) if isinstance(value, int) else [active_channels(each, width) for each in value]


def _defaults(name: str | type) -> dict[str, Any]:
    """Default settings of a class that are not None; defaults of a subclass override those of its base."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(MODELS.get(name) if isinstance(name, str) else name):
        for key, parameter in inspect.signature(vars(base).get('__init__', object.__init__)).parameters.items():
            if parameter.default not in (inspect.Parameter.empty, None):
                found.setdefault(key, parameter.default)
    return found
