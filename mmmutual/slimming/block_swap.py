"""Give a block the class that counts active channels, and its former class again."""

from __future__ import annotations

from torch import nn

from mmmutual.layers import Segment

BLOCK_STATE = ('_swapped', 'segments')  # attributes of a block that a swap sets


def swap_block_(block: nn.Module, counterpart: type[nn.Module], segments: tuple[Segment, ...] | None = None) -> None:
    """Give a block the class that counts active channels, in place; it remembers its former class.

    Args:
        block: The block.
        counterpart: The class.
        segments: The segments of its input, if the class needs them.
    """
    state = vars(block)
    state['_swapped'] = (type(block), {name: state[name] for name in BLOCK_STATE if name in state})
    block.__class__ = counterpart
    if segments is not None:
        block.segments = segments


def unswap_block_(block: nn.Module) -> None:
    """Undo the last ``swap_block_`` of a block, in place; any other block does not change."""
    state = vars(block)
    if '_swapped' in state:
        block.__class__, former = state['_swapped']
        for name in BLOCK_STATE:
            state.pop(name, None)
        state.update(former)
