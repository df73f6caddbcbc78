"""Walk over nested configs: dicts, lists and tuples, as MMEngine reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

Keys = tuple[str | int, ...]


def walk(node: Any, skip: Collection[str] = (), keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """A node and everything in it, outermost first.

    Args:
        node: A config, or any part of one.
        skip: Names of settings that are left out, with everything in them.
        keys: Place of the node: names of settings and indices of sequences.

    Yields:
        The keys that lead to a value, and the value. A dict may be changed before its content is visited.
    """
    yield keys, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        if key not in skip:
            yield from walk(value, skip, (*keys, key))


def nested_dicts(node: Any) -> Iterator[Any]:
    """All dicts in a config, outermost first."""
    return (value for _, value in walk(node) if isinstance(value, Mapping))


def rebuilt(node: Any, change: Callable[[Any], Any]) -> Any:
    """A copy in which each value is replaced, outermost first.

    Args:
        node: A config, or any part of one.
        change: Function that returns the replacement of a value, or the value; the content of a replacement is then
            replaced too.

    Returns:
        The copy, whose mappings are dicts.
    """
    node = change(node)
    if isinstance(node, Mapping):
        return {key: rebuilt(value, change) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(rebuilt(value, change) for value in node)
    return node


def place(keys: Keys) -> str:
    """Keys as Python writes them, such as ``'roi_head.bbox_head[0].num_classes'``."""
    return ''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in keys).removeprefix('.')


def type_name(node: Mapping) -> str:
    """The ``type`` of a config as a name without its scope; empty if it has none."""
    kind = node.get('type', '')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
