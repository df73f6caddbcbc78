"""Multiply-adds of attention: its projections, and the products of queries with keys and of weights with values."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from torch import Tensor, nn

from mmmutual.layers import channel_sides

from .roles import channels_out


def attention_multiply_adds(layer: nn.Module, tokens: Sequence[Tensor]) -> int:
    """Count the multiply-adds of an attention in one call.

    Args:
        layer: An attention that can slim.
        tokens: Its input as ``features`` gives it: queries, then keys or the values of a deformable attention if they
            are others. Window attention has the tokens of each window.

    Returns:
        The number, without the sampling of a deformable attention.
    """
    query, keys = tokens[0], tokens[min(1, len(tokens) - 1)]
    asking, asked = (value.numel() // value.size(-1) for value in (query, keys))
    count = 0
    for name, sides in channel_sides(layer).items():
        if sides in ('qi', 'hi', 'oh'):
            size = attrgetter(name)(layer).numel()
            if sides == 'qi':
                count += size // 3 * (asking + 2 * asked)
            else:
                count += size * (asked if name.startswith('value') else asking)
    if attends_to_all(layer) or hasattr(layer, 'window_size'):
        images = query.size(0 if getattr(layer, 'batch_first', True) else 1)
        count += 2 * asking * (asked // images) * channels_out(layer)
    return count


def attends_to_all(layer: nn.Module) -> bool:
    """Whether each query attends to all keys of an image, so that the products grow with the square of its area."""
    sides = channel_sides(layer).values()
    return 'qi' in sides and not hasattr(layer, 'window_size')
