"""Channel groups: runs of channels that slim together, found from their order in the layers' inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mmmutual.layers import Segment

from .channel_ids import ALWAYS, ChannelIds

UNKNOWN, END = -3, -2


class Run(NamedTuple):
    """Neighbouring channels of a layer.

    Attributes:
        group: The group that they are, or ``ALWAYS`` for channels that never slim.
        repeats: How often each of the group's channels stands there in a row, as pixels of a map that was flattened.
        channels: How many channels that makes.
    """

    group: int
    repeats: int
    channels: int


class Groups:
    """The channel groups of a model.

    Neighbours belong to one group if they are neighbours wherever they occur, and each occurs equally often in a row.

    Args:
        ids: The ids, joined and kept as the run showed.
        vectors: The inputs and outputs of layers, as ids (C,).

    Attributes:
        members: The ids (n,) of each group, in their order.
        divisors: For each group, the number that its active channels are a multiple of, in ids.
    """

    def __init__(self, ids: ChannelIds, vectors: Iterable[np.ndarray]) -> None:
        self._ids = ids
        self._kept = ids.kept()
        after = np.full(len(ids), UNKNOWN)
        before = np.full(len(ids), UNKNOWN)
        seen: set[bytes] = set()
        for vector in vectors:
            runs, counts = self._counted(vector)
            key = runs.tobytes() + counts.tobytes()
            if key not in seen:
                seen.add(key)
                same = counts[1:] == counts[:-1]
                _note(after, runs, np.append(np.where(same, runs[1:], END), END))
                _note(before, runs, np.append(END, np.where(same, runs[:-1], END)))
        self.members = _chains(after, before)
        self.divisors = [1] * len(self.members)
        self._group = np.full(len(ids) + 1, ALWAYS)  # the last place is that of ALWAYS
        for index, members in enumerate(self.members):
            self._group[members] = index

    def runs(self, vector: np.ndarray | None) -> list[Run]:
        """An input or output of a layer, as runs of groups and of channels that never slim; empty for None."""
        if vector is None:
            return []
        roots, counts = self._counted(vector)
        groups = self._group[roots]
        found: list[Run] = []
        place = 0
        while place < len(roots):
            group = groups[place]
            length = 1 if group == ALWAYS else len(self.members[group])
            channels = int(counts[place : place + length].sum())
            if group == ALWAYS and found and found[-1].group == ALWAYS:
                found[-1] = Run(ALWAYS, 1, found[-1].channels + channels)
            else:
                found.append(Run(int(group), int(counts[place]), channels))
            place += length
        return found

    def segments(self, vector: np.ndarray) -> tuple[Segment, ...]:
        """An input or output of a layer, as segments; neighbours that are active at every width are one segment."""
        segments: list[Segment] = []
        for run in self.runs(vector):
            divisor = run.channels if run.group == ALWAYS else self.divisors[run.group] * run.repeats
            segment = Segment(run.channels, min(divisor, run.channels))
            if segments and segment.is_full and segments[-1].is_full:
                segment = Segment.full(segments.pop().channels + segment.channels)
            segments.append(segment)
        return tuple(segments)

    def require(self, vector: np.ndarray, multiple: int) -> None:
        """Let the active channels of each run of a layer be a multiple."""
        for run in self.runs(vector):
            if run.group != ALWAYS:
                needed = math.lcm(multiple, run.repeats) // run.repeats
                self.divisors[run.group] = math.lcm(self.divisors[run.group], needed)

    def active(self, width: float) -> np.ndarray:
        """For each id that stands for a set whether its channels are active at a width multiplier."""
        active = np.ones(len(self._ids) + 1, bool)  # the last place is that of ALWAYS
        for members, divisor in zip(self.members, self.divisors):
            active[members[Segment(len(members), divisor).active(width) :]] = False
        return active

    def slims(self, vector: np.ndarray | None) -> bool:
        """Whether an input or output of a layer has fewer channels in a narrow network."""
        return vector is not None and not all(segment.is_full for segment in self.segments(vector))

    def active_share(self, vector: np.ndarray | None, channels: int, width: float) -> int:
        """The active part of a number of channels, one of the equal pieces of an input or output of a layer."""
        segments = [] if vector is None else self.segments(vector)
        total = sum(segment.channels for segment in segments)
        return sum(segment.active(width) for segment in segments) * channels // total if total else channels

    def _counted(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sets in their order, ``ALWAYS`` for kept ones, and how often each stands in a row."""
        roots = self._ids.find(vector)
        if len(self._kept):
            roots = np.where((roots >= 0) & self._kept[roots], ALWAYS, roots)
        starts = np.flatnonzero(np.append(True, roots[1:] != roots[:-1]))
        return roots[starts], np.diff(np.append(starts, len(roots)))


def _note(neighbours: np.ndarray, ids: np.ndarray, found: np.ndarray) -> None:
    """Note the neighbour of each id; one that has two different ones has none."""
    found = np.where(found < 0, END, found)[ids >= 0]
    ids = ids[ids >= 0]
    clash = (neighbours[ids] != UNKNOWN) & (neighbours[ids] != found)
    neighbours[ids] = found
    neighbours[ids[clash | (neighbours[ids] != found)]] = END


def _chains(after: np.ndarray, before: np.ndarray) -> list[np.ndarray]:
    """Follow neighbours that agree in both directions."""
    known = np.flatnonzero(after != UNKNOWN)
    linked = {int(a): int(after[a]) for a in known if after[a] >= 0 and before[after[a]] == a}
    chains = []
    for start in set(map(int, known)) - set(linked.values()):
        chain = [start]
        while chain[-1] in linked:
            chain.append(linked[chain[-1]])
        chains.append(np.array(chain))
    return sorted(chains, key=lambda chain: chain[0])
