"""One walk over nested tensors: lists, tuples and dictionaries, as models accept and return them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


def named_tensors(value: object, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """All tensors in a nested value, each with its place.

    Args:
        value: A tensor, or nested lists, tuples and mappings; anything else is left out.
        name: The name of the value.

    Yields:
        Names such as ``'head_0_1'``, for tensor 1 of item 0 of ``head``, and tensors.
    """
    if isinstance(value, Tensor):
        yield name, value
        return
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, item in items:
        yield from named_tensors(item, f'{name}_{key}')


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    return (tensor for _, tensor in named_tensors(value))
