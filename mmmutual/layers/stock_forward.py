"""Run the ``forward`` of a stock layer on the active part of its tensors, so that no upstream code is copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from .width import Slimmable


def stock_forward(layer: Slimmable, values: Mapping[str, object], *args: Any, **kwargs: Any) -> Any:
    """Run the stock ``forward`` of a slimmable layer with other values of its attributes.

    It runs on a view: an object of the stock class that shares everything else with the layer. So the layer does not
    change, not even after an error.

    Args:
        layer: A slimmable layer, whose class has a stock class among its bases.
        values: Attributes by name; those of parts have names such as ``part.weight``.
        *args: The arguments of ``forward``.
        **kwargs: Its keyword arguments.

    Returns:
        The output.
    """
    kind = next(base for base in type(layer).__mro__ if not issubclass(base, Slimmable))
    return _view(layer, kind, values).forward(*args, **kwargs)


def _view(layer: nn.Module, kind: type[nn.Module], values: Mapping[str, object]) -> nn.Module:
    view: nn.Module = object.__new__(kind)
    state = vars(view)
    state.update(vars(layer))
    parts: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for name, value in values.items():
        part, _, rest = name.partition('.')
        if rest:
            parts[part][rest] = value
        else:
            state[name] = value  # found before a parameter of that name
    for name, own in parts.items():
        part_of_it = getattr(layer, name)
        state[name] = _view(part_of_it, type(part_of_it), own)
    return view
