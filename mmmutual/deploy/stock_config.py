"""The stock mmdet config of a sub-network, for testing and inference where mmmutual is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmdet.registry
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.registry import Registry

from mmmutual.engine import scale_pipeline
from mmmutual.layers import check_ratio

from .stock_heads import stock_detector
from .stock_parts import stock_fpn, stock_resnet

PARTS = {'SlimmableDetector': stock_detector, 'SlimmableResNet': stock_resnet, 'SlimmableFPN': stock_fpn}
RENAMED = {  # stock name, and arguments that it does not have
    'SlimBN': ('BN', ('widths',)),
    'SlimSyncBN': ('SyncBN', ('widths',)),
    'SwitchableBN': ('BN', ('widths',)),
    'SlimGN': ('GN', ()),
    'SlimConv2d': ('Conv2d', ('slim_out',)),
    'SlimConvTranspose2d': ('deconv', ('slim_out',)),
    'SlimLinear': ('Linear', ('slim_out',)),
    'SubnetValLoop': ('ValLoop', ('widths', 'scales')),
    'SubnetTestLoop': ('TestLoop', ('widths', 'scales')),
    'SubnetLogProcessor': ('LogProcessor', ()),
    'AtomicCheckpointHook': ('CheckpointHook', ()),
}
KEPT = (
    'default_scope',
    'custom_imports',
    'model',
    'val_dataloader',
    'val_evaluator',
    'val_cfg',
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'default_hooks',
    'env_cfg',
    'visualizer',
    'log_processor',
    'log_level',
)  # what a test or an inference reads; the recipe of a mutual training is none for a single network
SCALED = ('val_dataloader', 'test_dataloader')


def stock_config(config: Mapping, width: float, scale: float = 1.0) -> Config:
    """The config of a sub-network as a stock detector.

    Args:
        config: Config of the slimmable detector.
        width: Width multiplier in (0, 1].
        scale: Input scale in (0, 1]: the factor of the sizes in the validation and test pipelines.

    Returns:
        A config without anything of mmmutual and without the training; ``test_pipeline`` is that of the test data.

    Raises:
        TypeError: If ``width`` or ``scale`` is not a number.
        ValueError: If one of them is out of range, if a stock backbone cannot have the width (with the nearest ones
            that it can), if the pipelines have no size to scale, or if a part has no stock counterpart.
    """
    width, scale = check_ratio(width), check_ratio(scale, 'scale')
    stock = {key: config[key] for key in KEPT if config.get(key) is not None}
    if 'test_dataloader' not in stock:
        raise ValueError('the config has no test_dataloader, whose pipeline the exported detector needs')
    for key in SCALED:
        if key in stock:
            stock[key] = scale_pipeline(stock[key], scale)
    stock = _stock(Config(stock).to_dict(), width)
    _drop_own_imports(stock)
    stock['test_pipeline'] = get_test_pipeline_cfg(Config(stock))  # where mmdeploy looks
    _check_all_stock(stock)
    return Config(stock)


def _drop_own_imports(stock: dict) -> None:
    custom = stock.pop('custom_imports', {})
    imports = custom.get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    others = [name for name in imports if name.split('.')[0] != 'mmmutual']
    if others:
        stock['custom_imports'] = {**custom, 'imports': others}


def _stock(node: Any, width: float) -> Any:
    """A copy of a nested config with stock types, narrowed to a width."""
    if isinstance(node, (list, tuple)):
        return type(node)(_stock(item, width) for item in node)
    if not isinstance(node, Mapping):
        return node
    node, kind = dict(node), _kind(node)
    if kind in PARTS:
        node = PARTS[kind](node, width)
    elif kind in RENAMED:
        node['type'], dropped = RENAMED[kind]
        for argument in dropped:
            node.pop(argument, None)
    return {key: _stock(value, width) for key, value in node.items()}


def _check_all_stock(node: Any, path: str = '') -> None:
    """Raise ``ValueError`` for a part that only mmmutual knows."""
    if isinstance(node, Mapping):
        if _kind(node) in _own_names():
            raise ValueError(
                f'{path} is a {_kind(node)}, which has no stock counterpart: only detectors made slimmable with '
                f'{" and ".join(list(PARTS)[1:])} can be exported'
            )
        for key, value in node.items():
            _check_all_stock(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            _check_all_stock(value, f'{path}[{index}]')


def _own_names() -> set[str]:
    """Names under which mmmutual is registered anywhere."""
    registries = [value for value in vars(mmdet.registry).values() if isinstance(value, Registry)]
    return {
        name
        for registry in registries
        for name, module in registry.module_dict.items()
        if module.__module__.split('.')[0] == 'mmmutual'
    }


def _kind(node: Mapping) -> str:
    kind = node.get('type', '')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
