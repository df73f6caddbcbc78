"""An MMDetection config, made mutual: what a person would write by hand."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmutual.engine import SandwichSampler, scale_pipeline
from mmmutual.models import check_part, make_slimmable_

from .config_file import inheriting

WIDTHS = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
SCALES = (1.0, 0.8, 0.6, 0.4)
CLIP = dict(max_norm=35, norm_type=2)
LINE = 100  # characters of a written setting
EVALUATED = 4  # of the trained widths
STOCK_LOOPS = {'val_cfg': ('ValLoop', 'SubnetValLoop'), 'test_cfg': ('TestLoop', 'SubnetTestLoop')}


def make_mutual(
    config: Config,
    widths: Sequence[float] = WIDTHS,
    scales: Sequence[float] = SCALES,
    slim: str = 'backbone',
) -> Config:
    """Make a config mutual: backbone, neck and norms swapped, hooks and loops added, all else kept.

    Args:
        config: A config of a detector.
        widths: Width multipliers above 0 and at most 1 to train, in any order.
        scales: Input scales above 0 and at most 1, in any order.
        slim: What slims: the ``'backbone'``, as in the paper, or the whole ``'detector'``.

    Returns:
        A new config; the one given does not change.

    Raises:
        TypeError: If ``widths`` or ``scales`` are no numbers.
        ValueError: If they are out of range, or if the detector cannot be made mutual, with the module's name.
    """
    sampler = SandwichSampler(widths, scales)
    widths, scales = sampler.widths, sampler.scales
    if not isinstance(config.get('model'), Mapping):
        raise ValueError('the config has no model, so there is nothing to make mutual')
    hooks = list(config.get('custom_hooks') or [])
    if any(_kind(hook) == 'MutualLearningHook' for hook in hooks):
        raise ValueError('the config is mutual already: it has a MutualLearningHook. Use it as it is')
    mutual = copy.deepcopy(config)
    _swap_model(mutual, widths, check_part(slim))
    mutual.custom_hooks = [
        *hooks,
        dict(type='MutualLearningHook', widths=widths, scales=scales),
        dict(type='BNCalibrationHook', num_batches=100),
    ]
    for name, (stock, subnets) in STOCK_LOOPS.items():
        if mutual.get(name) and mutual[name].get('type', stock) == stock:
            mutual[name].update(type=subnets, widths=_spread(widths))
    if mutual.get('test_cfg') and mutual.test_cfg.type == 'SubnetTestLoop' and _scalable(mutual, scales):
        mutual.test_cfg.scales = scales
    if mutual.get('optim_wrapper') and not mutual.optim_wrapper.get('clip_grad'):
        mutual.optim_wrapper.clip_grad = CLIP  # the gradient is the sum over the passes
    if _kind(mutual.get('log_processor') or {}) in ('', 'LogProcessor'):
        mutual.log_processor = {**(mutual.get('log_processor') or {}), 'type': 'SubnetLogProcessor'}
    imports = mutual.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    mutual.custom_imports = {**imports, 'imports': [*names, *({'mmmutual'} - set(names))]}
    return mutual


def changes(stock: Mapping, mutual: Mapping) -> dict:
    """The nested settings of one config that the other has not or has otherwise.

    Args:
        stock: A config.
        mutual: What was made of it.

    Returns:
        The part of ``mutual`` that, merged into ``stock``, gives ``mutual``.
    """
    found: dict[str, Any] = {}
    for name, value in mutual.items():
        old = stock.get(name)
        if name in stock and _plain(old) == _plain(value):
            continue
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[name] = changes(old, value) if both else value
    return found


def format_changes(stock: Mapping, mutual: Mapping, color: bool = False) -> str:
    """What :func:`make_mutual` changed, a line for each setting, under the names that ``--cfg-options`` takes.

    Args:
        stock: The config before.
        mutual: The config after.
        color: Whether to colour the lines for a terminal.

    Returns:
        The lines: ``+ name: new`` or ``~ name: old -> new``.
    """
    lines = []
    for name, new in _flat(changes(stock, mutual)):
        old = stock
        for part in name.split('.'):
            old = old.get(part) if isinstance(old, (Mapping, Config)) else None
        if isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old:
            lines += [f'+ {name}[{index}]: {_plain(item)}' for index, item in enumerate(new) if index >= len(old)]
        else:
            lines.append(f'+ {name}: {_plain(new)}' if old is None else f'~ {name}: {_plain(old)} -> {_plain(new)}')
    if color:
        lines = [f'\033[{32 if line[0] == "+" else 33}m{line}\033[0m' for line in lines]
    return '\n'.join(lines)


def write_mutual(name: str, stock: Config, mutual: Config, path: str | Path) -> None:
    """Write a mutual config as a person would: the stock one as its base, then what differs.

    Args:
        name: How the stock config is called: a path, or a name such as ``mmdet::...``.
        stock: The stock config.
        mutual: What was made of it.
        path: Where the file goes. Where MMEngine cannot inherit from such a name, all settings go into it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if '::' in name and inheriting(name) is None:
        mutual.dump(path)
        return
    base = name if '::' in name else os.path.relpath(name, Path(path).parent).replace(os.sep, '/')
    lines = [f'{key} = {_code(value)}' for key, value in _mergeable(stock, changes(stock, mutual)).items()]
    Path(path).write_text('\n'.join([f'_base_ = {base!r}', *lines, '']))


def _mergeable(stock: Mapping, new: Mapping) -> dict:
    """Changes as MMEngine merges them: a dict says so where it stands for something else, None say."""
    merged = {}
    for name, value in new.items():
        old = stock.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = _mergeable(old, value)
        elif isinstance(value, Mapping) and name in stock:
            value = {'_delete_': True, **value}
        merged[name] = value
    return merged


def _code(value: Any, indent: int = 0) -> str:
    """A setting as Python code: on one line where it fits, else a line for each item."""
    if isinstance(value, Mapping):
        items, brackets = [f'{key}=' for key in value], ('dict(', ')')
        values = list(value.values())
    elif isinstance(value, list):
        items, brackets, values = [''] * len(value), '[]', value
    else:
        return repr(value)
    inner = indent + 4
    whole = brackets[0] + ', '.join(f'{key}{_code(item)}' for key, item in zip(items, values)) + brackets[1]
    if indent + len(whole) <= LINE and '\n' not in whole:
        return whole
    lines = [f'{" " * inner}{key}{_code(item, inner)},' for key, item in zip(items, values)]
    return '\n'.join([brackets[0], *lines, ' ' * indent + brackets[1]])


def _swap_model(config: Config, widths: tuple[float, ...], slim: str) -> None:
    """Swap in the slimmable counterparts, or the wrapper that converts what is built."""
    model = config.model
    init_default_scope(config.get('default_scope') or 'mmdet')
    if not isinstance(model.get('backbone'), Mapping):
        parts = [name for name, part in model.items() if isinstance(part, Mapping) and 'backbone' in part]
        several = f', but several models ({", ".join(parts)})' if parts else ''
        raise ValueError(f'{_kind(model)} has no backbone of its own{several}: it cannot be made mutual')
    backbone = model.backbone
    for part in (backbone, model.get('roi_head', {}).get('shared_head')):
        if part:
            _thaw(part)
    _use_torch_norm(model)
    detector = MODELS.build(copy.deepcopy(model))  # building changes a config
    make_slimmable_(detector, widths, slim=slim)
    if slim == 'detector':
        model.update(type='SlimmableDetector', detector=model.type, widths=widths, slim=slim)
    elif _has_classes(model, detector):
        backbone.update(type=f'Slimmable{backbone.type}', widths=widths)
        model.neck.type = f'Slimmable{model.neck.type}'
        if model.neck.type != 'SlimmableFPN' or _norms(detector.neck):
            model.neck.widths = widths
    else:
        model.update(type='SlimmableDetector', detector=model.type, widths=widths)


def _use_torch_norm(node: Any) -> None:
    """Let torch's synchronised batch norm, which slims, stand for mmcv's."""
    if isinstance(node, Mapping):
        if node.get('type') == 'MMSyncBN':
            node['type'] = 'SyncBN'
        for value in node.values():
            _use_torch_norm(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _use_torch_norm(value)


def _thaw(part: Mapping) -> None:
    """Train norms and stem: frozen ones have neither statistics nor weights that suit narrow networks."""
    kind = MODELS.get(part['type']) if isinstance(part['type'], str) else part['type']
    bases = inspect.getmro(kind) if kind else ()  # a subclass may pass them on as **kwargs
    options = {name for base in bases for name in inspect.signature(base.__init__).parameters}
    for name, value in (('norm_eval', False), ('frozen_stages', -1)):
        if name in options:
            part[name] = value


def _has_classes(model: Mapping, detector: nn.Module) -> bool:
    """Whether backbone and neck have slimmable classes that cover all there is to convert."""
    backbone, neck = model['backbone'], model.get('neck')
    special = [name for name in ('dcn', 'plugins', 'conv_cfg') if backbone.get(name)]
    heads = [part for name, part in detector.named_children() if name not in ('backbone', 'neck')]
    if special or not isinstance(neck, Mapping) or any(_norms(head) for head in heads):
        return False
    return all(f'Slimmable{part["type"]}' in MODELS.module_dict for part in (backbone, neck))


def _norms(module: nn.Module) -> bool:
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def _spread(widths: tuple[float, ...]) -> tuple[float, ...]:
    """A few of the widths, evenly spread, the widest and the narrowest among them."""
    if len(widths) <= EVALUATED:
        return widths
    return tuple(widths[round(index * (len(widths) - 1) / (EVALUATED - 1))] for index in range(EVALUATED))


def _scalable(config: Config, scales: tuple[float, ...]) -> bool:
    """Whether the test pipeline can be scaled."""
    try:
        scale_pipeline(config.get('test_dataloader'), min(scales))
    except ValueError:
        return False
    return True


def _kind(node: Mapping) -> str:
    kind = node.get('type', '')
    return kind if isinstance(kind, str) else kind.__name__


def _flat(node: Mapping, prefix: str = '') -> list[tuple[str, Any]]:
    """Settings under dotted names; a dict that is new as a whole stays whole."""
    flat: list[tuple[str, Any]] = []
    for name, value in node.items():
        nested = isinstance(value, Mapping) and value
        flat += _flat(value, f'{prefix}{name}.') if nested else [(f'{prefix}{name}', value)]
    return flat


def _plain(value: Any) -> Any:
    """Plain dicts and lists instead of MMEngine's."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else list(value)
    return value
