"""Deprecated names: importable from their former module for one release, with a warning that names the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose names have moved.

    Args:
        module: Name of the module.
        places: The names that each new module holds, separated by spaces; ``old:new`` if the name changed too.

    Returns:
        A function that finds a name, warns with ``DeprecationWarning``, and raises ``AttributeError`` for others.
    """
    found = {name.partition(':')[0]: (place, name) for place, names in places.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in found:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        place, names = found[name]
        new = names.partition(':')[2] or name
        warnings.warn(
            f'{module}.{name} is deprecated and will be removed in mmmutual 0.3: use {place}.{new}',
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(place), new)

    return find
