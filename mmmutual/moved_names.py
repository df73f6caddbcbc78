"""Deprecated names: accepted in their former place for one release, with a warning that names the new one."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')


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
        warn_of_renamed(f'{module}.{name}', f'{place}.{new}')
        return getattr(import_module(place), new)

    return find


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it accepts a keyword argument under its former name too.

    Args:
        old: The former name.
        new: The name.

    Returns:
        The decorator. The decorated function warns with ``DeprecationWarning`` if it is called with the former name,
        and raises ``ValueError`` if it is called with both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise ValueError(f'{new} and {old} are the same argument: leave the deprecated {old} out')
                warn_of_renamed(f'the argument {old}', new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accepting

    return decorate


def renamed_attribute(old: str, new: str) -> property:
    """Make a property that reads an attribute under its former name, and warns with ``DeprecationWarning``.

    Args:
        old: The former name, with the class: ``'QueryTable.cells'``.
        new: The name of the attribute or method.

    Returns:
        The property.
    """

    def read(instance: Any) -> Any:
        warn_of_renamed(old, new)
        return getattr(instance, new)

    return property(read, doc=f'Deprecated: ``{new}``.')


class RenamedOption(argparse.Action):
    """A command-line option under its former name, without help: it sets the ``dest`` of the new one, with a note."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, **kwargs)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Set the value of the new option, and print a note."""
        setattr(namespace, self.dest, values)
        new = '--' + self.dest.replace('_', '-')
        print(f'note: {option_string} is deprecated and will be removed in mmmutual 0.3: use {new}', file=sys.stderr)


def warn_of_renamed(old: str, new: str) -> None:
    """Warn the caller of the caller that it uses a former name, with ``DeprecationWarning``.

    Args:
        old: The former name.
        new: The name that replaces it.
    """
    message = f'{old} is deprecated and will be removed in mmmutual 0.3: use {new}'
    warnings.warn(message, DeprecationWarning, stacklevel=3)
