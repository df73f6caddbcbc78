"""Differences between two configs: as lines to read, and as a file that inherits from one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmutual.config_tree import rebuilt

from .config_file import inheriting

LINE = 100  # characters of a written setting


def changes(stock: Mapping, mutual: Mapping) -> dict:
    """The nested settings of one config that are missing or different in the other.

    Args:
        stock: A config.
        mutual: The mutual config made from it.

    Returns:
        The part of ``mutual`` that results in ``mutual`` when merged into ``stock``.
    """
    found: dict[str, Any] = {}
    for name, value in mutual.items():
        old = stock.get(name)
        if name in stock and _builtin(old) == _builtin(value):
            continue
        found[name] = changes(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def format_changes(stock: Mapping, mutual: Mapping, color: bool = False) -> str:
    """List the changes of ``make_mutual``, a line for each setting, with the names that ``--cfg-options`` accepts.

    Args:
        stock: The config before.
        mutual: The config after.
        color: Whether to colour the lines for a terminal.

    Returns:
        The lines: ``+ name: new`` or ``~ name: old -> new``.
    """
    lines = []
    for name, new in _flat(changes(stock, mutual)):
        old: Any = stock
        for part in name.split('.'):
            old = old.get(part) if isinstance(old, (Mapping, Config)) else None
        if isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old:
            lines += [f'+ {name}[{index}]: {_builtin(item)}' for index, item in enumerate(new) if index >= len(old)]
        else:
            lines.append(
                f'+ {name}: {_builtin(new)}' if old is None else f'~ {name}: {_builtin(old)} -> {_builtin(new)}'
            )
    if color:
        lines = [f'\033[{32 if line[0] == "+" else 33}m{line}\033[0m' for line in lines]
    return '\n'.join(lines)


def write_mutual(name: str, stock: Config, mutual: Config, path: str | Path) -> None:
    """Write a mutual config as a person would: the stock config as its base, then the differences.

    Args:
        name: Name of the stock config: a path, or a name such as ``mmdet::...``.
        stock: The stock config.
        mutual: The mutual config made from it.
        path: The file to write. If MMEngine cannot inherit from the stock config, all settings are written into it.

    Raises:
        ValueError: If the file's name does not end in ``.py``, or is the name of the stock config.
    """
    if Path(path).suffix != '.py' or Path(path).is_dir():
        raise ValueError(f'the mutual config needs a file name that ends in .py, but got {path}')
    if '::' not in name and Path(path).resolve() == Path(name).resolve():
        raise ValueError(f'the mutual config inherits from {name}, so it needs another name than {path}')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if inheriting(name if '::' in name else os.path.abspath(name)) is None:
        mutual.dump(path)
        return
    base = name if '::' in name else os.path.relpath(name, Path(path).parent).replace(os.sep, '/')
    lines = [f'{key} = {_code(value)}' for key, value in _mergeable(stock, changes(stock, mutual)).items()]
    Path(path).write_text('\n'.join([f'_base_ = {base!r}', *lines, '']))


def _mergeable(stock: Mapping, new: Mapping) -> dict:
    """Changes as MMEngine merges them: a dict that replaces another value, for example None, has ``_delete_``."""
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
    """A setting as Python code: on one line if it is short enough, else a line for each item."""
    if isinstance(value, Mapping):
        items, brackets = [f'{key}=' for key in value], ['dict(', ')']
        values = list(value.values())
    elif isinstance(value, list):
        items, brackets, values = [''] * len(value), ['[', ']'], value
    else:
        return repr(value)
    inner = indent + 4
    whole = brackets[0] + ', '.join(f'{key}{_code(item)}' for key, item in zip(items, values)) + brackets[1]
    if indent + len(whole) <= LINE and '\n' not in whole:
        return whole
    lines = [f'{" " * inner}{key}{_code(item, inner)},' for key, item in zip(items, values)]
    return '\n'.join([brackets[0], *lines, ' ' * indent + brackets[1]])


def _flat(node: Mapping, prefix: str = '') -> list[tuple[str, Any]]:
    """Settings under dotted names; an empty dict stays one setting."""
    flat: list[tuple[str, Any]] = []
    for name, value in node.items():
        nested = isinstance(value, Mapping) and value
        flat += _flat(value, f'{prefix}{name}.') if nested else [(f'{prefix}{name}', value)]
    return flat


def _builtin(value: Any) -> Any:
    """Built-in dicts instead of MMEngine's."""
    return rebuilt(value, lambda item: item)
