"""Replace the classes in a config in pure Python by the names that they are registered with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import mmdet.registry
import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from mmmutual.config_tree import rebuilt, walk
from mmmutual.upstream import imported_names


def with_registered_names(config: Config) -> Config:
    """Replace classes and functions in a config by the names that they are registered with.

    Code that searches for a ``type`` by its name then finds it, and the config can be written to a file.

    Args:
        config: A config, for example from a file with ``read_base()``.

    Returns:
        The same config if it has no classes, or a new one. An unregistered class is replaced by its import path, which
        MMEngine accepts too.
    """
    imported = imported_names(config)  # imported names are not settings
    settings = {name: value for name, value in config.items() if name not in imported}
    if not any(_is_code(value) for _, value in walk(settings)):
        return config
    names = {id(kind): name for name, kind in _registered()}
    settings = rebuilt(settings, lambda value: names.get(id(value), _import_path(value)) if _is_code(value) else value)
    settings['default_scope'] = settings.get('default_scope') or 'mmdet'  # names are looked up in it
    return Config(settings, cfg_text=config.text, filename=config.filename)


def _is_code(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _import_path(code: Any) -> str:
    return f'{code.__module__}.{code.__qualname__}'


def _registered() -> Iterator[tuple[str, Any]]:
    """Names and classes of all registries; those that mmdet finds without a prefix come last."""
    roots = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]
    own = [value for value in vars(mmdet.registry).values() if isinstance(value, Registry)]
    for registry in roots:
        for scope, child in registry.children.items():
            yield from ((f'{scope}.{name}', kind) for name, kind in child.module_dict.items())
    for registry in (*roots, *own):
        yield from registry.module_dict.items()
