"""Let blocks that count channels themselves count those of a narrow network that the planner simulates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from .groups import Groups
from .rules import BlockRule
from .trace import Trace


@contextmanager
def counting(rules: Mapping[nn.Module, BlockRule], groups: Groups, trace: Trace, width: float) -> Iterator[None]:
    """Let blocks count the channels of a narrow network for a while."""
    former: list[tuple[nn.Module, str, object]] = []
    for block, rule in rules.items():
        if rule.behind is not None and groups.slims(trace.channels_behind(rule.behind)):
            former.append((block, '__class__', type(block)))
            block.__class__ = rule.counterpart
        for name, layers in rule.counts.items():
            value = vars(block)[name]
            former.append((block, name, value))
            several = isinstance(layers, list)
            counts = [
                groups.active_share(trace.channels_behind(layer), count, width)
                for count, layer in zip(value if several else [value], layers if several else [layers])
            ]
            vars(block)[name] = counts if several else counts[0]
    try:
        yield
    finally:
        for block, name, value in former:
            if name == '__class__':
                block.__class__ = value
            else:
                vars(block)[name] = value
