"""Convert the config of a slimmable detector to stock types, or to a narrow detector that mmmutual builds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mmdet.registry
from mmengine.registry import Registry

from mmmutual.config_tree import place, rebuilt, type_name, walk

PREFIX = 'Slimmable'  # of backbones, necks and RoI extractors: SlimmableResNet is a ResNet
PREFIXED = ('widths', 'slim_out')  # their arguments that stock classes lack
RENAMED = {  # stock name, and arguments that it does not have
    'SlimBN': ('BN', ('widths',)),
    'SlimSyncBN': ('SyncBN', ('widths',)),
    'SwitchableBN': ('BN', ('widths',)),
    'SlimGN': ('GN', ()),
    'SlimLN': ('LN', ()),
    'SlimConv2d': ('Conv2d', ('slim_out',)),
    'SlimConvWS': ('ConvWS', ('slim_out',)),
    'SlimConvTranspose2d': ('deconv', ('slim_out',)),
    'SlimLinear': ('Linear', ('slim_out',)),
    'SlimmableSwin': ('SwinTransformer', PREFIXED),
    'SlimmablePVT': ('PyramidVisionTransformer', PREFIXED),
    'SlimmablePVTv2': ('PyramidVisionTransformerV2', PREFIXED),
    'SubnetValLoop': ('ValLoop', ('widths', 'num_widths', 'scales', 'calibration_batches')),
    'SubnetTestLoop': ('TestLoop', ('widths', 'num_widths', 'scales', 'calibration_batches', 'report')),
    'SubnetLogProcessor': ('LogProcessor', ()),
    'AtomicCheckpointHook': ('CheckpointHook', ()),
}


def stock_types(node: Any) -> Any:
    """A copy of a nested config with stock types instead of those of mmmutual, at full width.

    Args:
        node: A config, or a part of one.

    Returns:
        The copy; types of mmmutual that have no stock counterpart stay.
    """
    return rebuilt(node, _stock)


def _stock(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    node, name = dict(node), type_name(node)
    dropped: tuple[str, ...] = ()
    if name == 'SlimmableDetector':
        node['type'], dropped = node['detector'], ('detector', 'widths', 'scope', 'slim')
    elif name in RENAMED:
        node['type'], dropped = RENAMED[name]
    elif name.startswith(PREFIX):
        node['type'], dropped = name.removeprefix(PREFIX), PREFIXED
    return {key: value for key, value in node.items() if key not in dropped}


def narrow_detector(model: Mapping, width: float) -> dict:
    """The config of ``build_narrow_detector`` for a slimmable detector.

    Args:
        model: Config of the slimmable detector.
        width: Width multiplier in (0, 1].

    Returns:
        The config, whose backbone has no initial weights.
    """
    own = dict(model) if type_name(model) == 'SlimmableDetector' else {**model, 'detector': model['type']}
    own['backbone'] = {**own['backbone'], 'init_cfg': None}
    return {**own, 'type': 'NarrowDetector', 'width': width}


def own_parts(node: Any) -> Iterator[tuple[str, str]]:
    """The parts of a config whose type only mmmutual defines.

    Args:
        node: A config.

    Yields:
        Path and type of each.
    """
    names = _own_names()
    for keys, part in walk(node):
        if isinstance(part, Mapping) and type_name(part) in names:
            yield place(keys), type_name(part)


def _own_names() -> set[str]:
    """Names of mmmutual's classes in all registries."""
    registries = [value for value in vars(mmdet.registry).values() if isinstance(value, Registry)]
    return {
        name
        for registry in registries
        for name, module in registry.module_dict.items()
        if module.__module__.split('.')[0] == 'mmmutual'
    }
