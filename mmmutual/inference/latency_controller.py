"""Holding a target latency while the machine's load comes and goes, by moving along the query table's front."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from mmmutual.evaluation import Cell
from mmmutual.number_checks import check_positive, check_whole

RECENT = 5  # frames whose median tells that the load has jumped; two outliers among them do not count
JUMP = 0.2  # how far it must be from the longer median: beyond the noise of five frames
CLIMB, LEAVE = 0.98, 1.03  # a better cell is taken below, the current one left above these parts of the target
LONGEST_WAIT = 1000  # frames


class LatencyController:
    """Chooses the sub-network of the next frame from the latencies of the frames so far.

    A frame's latency is taken to be the table's latency of its cell times the load, one factor for all cells. The load
    is the median over the last ``window`` frames; when the last few disagree with it, the older ones are forgotten.
    So single outliers change nothing, and a jump is followed within a few frames. The best cell whose latency under
    that load is within the target runs; under a load at which none is, the fastest one.

    Two things keep it from flapping between two cells. A better cell must be predicted somewhat below the target, and
    the current one is left only somewhat above it. And since the table may be wrong for a cell, each climb that had
    to be undone doubles the time until the next, until one lasts or the load jumps.

    The class is deterministic and keeps no time of its own.

    Args:
        cells: Sub-networks with ``latency_ms``, in order of rising latency and accuracy, as
            ``QueryTable.front('latency_ms')`` gives them.
        target_ms: The latency to hold, in milliseconds.
        window: Frames that the load is estimated from.

    Attributes:
        cell: The sub-network to run now.
        load: The estimated load: measured over the table's latency.
        target_ms: The latency to hold; it may be changed at any time.

    Raises:
        TypeError: If ``target_ms`` is not a number, or ``window`` not a whole one.
        ValueError: If there is no cell, if they have no latency or are not in rising order, or if ``target_ms`` or
            ``window`` is out of range.

    Examples:
        >>> controller = LatencyController(table.front('latency_ms'), target_ms=30)
        >>> controller.cell.latency_ms
        25.0
        >>> for _ in range(30):  # frames on a device that is busy, and takes twice as long as in the table
        ...     cell = controller.update(2 * controller.cell.latency_ms)
        >>> cell.latency_ms
        12.5
    """

    def __init__(self, cells: Sequence[Cell], target_ms: float, window: int = 30) -> None:
        check_whole(window, 'window', RECENT, 'frames')
        latencies = [cell.latency_ms for cell in cells if cell.latency_ms is not None]
        if not latencies or len(latencies) < len(cells) or latencies != sorted(latencies):
            raise ValueError(
                "cells must have latencies in rising order, as QueryTable.front('latency_ms') gives them, but got "
                f'{[cell.latency_ms for cell in cells]}'
            )
        self.cells, self._latencies = tuple(cells), latencies
        self.target_ms = target_ms
        self.load = 1.0
        self._window = window
        self._ratios: deque[float] = deque(maxlen=window)
        self._index = self._best(1.0)
        self._since_switch = 0
        self._climbed_from: int | None = None
        self._shortest_wait = self._wait = RECENT

    @property
    def cell(self) -> Cell:
        """The sub-network to run now."""
        return self.cells[self._index]

    @property
    def target_ms(self) -> float:
        """The latency to hold, in milliseconds."""
        return self._target_ms

    @target_ms.setter
    def target_ms(self, value: float) -> None:
        self._target_ms = check_positive(value, 'target_ms', 'milliseconds', finite=True)

    def update(self, latency_ms: float) -> Cell:
        """Take note of the latency of a frame that ran at ``cell``.

        Args:
            latency_ms: Measured, in milliseconds.

        Returns:
            The sub-network for the next frame.

        Raises:
            TypeError: If ``latency_ms`` is not a number.
            ValueError: If it is not above 0.
        """
        self._since_switch += 1
        self._estimate(
            check_positive(latency_ms, 'latency_ms', 'milliseconds', finite=True) / self._latencies[self._index]
        )
        if len(self._ratios) < RECENT:
            return self.cell  # the first frames of a program are slow ones
        if self._climbed_from is not None and self._since_switch > 2 * self._window:
            self._wait, self._climbed_from = self._shortest_wait, None  # the climb has lasted
        if self._predict(self._index) > LEAVE * self.target_ms:
            self._move(min(self._index, self._best(1.0)))
        elif self._since_switch >= self._wait:
            self._move(max(self._index, self._best(CLIMB)))
        return self.cell

    def _estimate(self, ratio: float) -> None:
        self._ratios.append(ratio)
        recent = list(self._ratios)[-RECENT:]
        if len(recent) == RECENT and abs(median(recent) / median(self._ratios) - 1) > JUMP:
            self._ratios = deque(recent, self._window)
            if self._since_switch > RECENT:  # or else it may be the cell that differs from the table, not the load
                self._wait, self._climbed_from = self._shortest_wait, None
        self.load = median(self._ratios)

    def _predict(self, index: int) -> float:
        return self.load * self._latencies[index]

    def _best(self, part: float) -> int:
        """The best cell predicted to be within a part of the target; without one, the fastest."""
        fitting = [index for index in range(len(self.cells)) if self._predict(index) <= part * self.target_ms]
        return max(fitting, default=0)

    def _move(self, index: int) -> None:
        if index == self._index:
            return
        if index > self._index:
            self._climbed_from = self._index
        elif self._climbed_from is not None:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self._climbed_from = None
        self._index, self._since_switch = index, 0
