"""Hold a target latency while the load of the machine changes, by moving along the query table's Pareto front."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from mmmutual.evaluation import MeasuredSubnet
from mmmutual.moved_names import renamed_argument, renamed_attribute
from mmmutual.number_checks import check_positive, check_whole

RECENT = 5  # frames whose median shows that the load has jumped; two outliers among them do not count
JUMP = 0.2  # how far it must be from the longer median: beyond the noise of five frames
CLIMB, LEAVE = 0.98, 1.03  # shares of the target: change to a better sub-network below, leave the current above
LONGEST_WAIT = 1000  # frames


class LatencyController:
    """Chooses the sub-network of the next frame from the latencies of the frames so far.

    The predicted latency of a frame is the table's latency of its sub-network times the load, one factor for all
    sub-networks. The load is the median over the last ``window`` frames. If the last few disagree with it, the older
    ones are discarded. So single outliers change nothing, and the controller follows a jump within a few frames. It
    runs the best sub-network whose predicted latency is within the target; if none is, the fastest one.

    Two rules prevent frequent changes between two sub-networks. The controller changes to a better sub-network only if
    the prediction is somewhat below the target, and leaves the current one only if it is somewhat above. And since the
    table may be wrong for a sub-network, each climb that had to be undone doubles the time until the next one, until a
    climb lasts or the load jumps.

    The class is deterministic and reads no clock.

    Args:
        subnets: Sub-networks with ``latency_ms``, in order of rising latency and accuracy, as
            ``QueryTable.front('latency_ms')`` returns them.
        target_ms: The latency to hold, in milliseconds.
        window: Number of frames that the load is estimated from.

    Attributes:
        subnet: The sub-network to run now.
        load: The estimated load: the measured latency divided by the table's.
        target_ms: The latency to hold; it may be changed at any time.

    Raises:
        TypeError: If ``target_ms`` is not a number, or if ``window`` is not a whole number.
        ValueError: If there are no sub-networks, if they have no latency or are not in rising order, or if
            ``target_ms`` or ``window`` is out of range.

    Examples:
        >>> controller = LatencyController(table.front('latency_ms'), target_ms=30)
        >>> controller.subnet.latency_ms
        25.0
        >>> for _ in range(30):  # frames on a device that is busy, and takes twice as long as in the table
        ...     subnet = controller.update(2 * controller.subnet.latency_ms)
        >>> subnet.latency_ms
        12.5
    """

    @renamed_argument('cells', 'subnets')
    def __init__(self, subnets: Sequence[MeasuredSubnet], target_ms: float, window: int = 30) -> None:
        check_whole(window, 'window', RECENT, 'frames')
        latencies = [subnet.latency_ms for subnet in subnets if subnet.latency_ms is not None]
        if not latencies or len(latencies) < len(subnets) or latencies != sorted(latencies):
            raise ValueError(
                "subnets must have latencies in rising order, as QueryTable.front('latency_ms') gives them, but got "
                f'{[subnet.latency_ms for subnet in subnets]}'
            )
        self.subnets, self._latencies = tuple(subnets), latencies
        self.target_ms = target_ms
        self.load = 1.0
        self._window = window
        self._ratios: deque[float] = deque(maxlen=window)
        self._index = self._best(1.0)
        self._since_switch = 0
        self._climbed_from: int | None = None
        self._shortest_wait = self._wait = RECENT

    @property
    def subnet(self) -> MeasuredSubnet:
        """The sub-network to run now."""
        return self.subnets[self._index]

    cells = renamed_attribute('LatencyController.cells', 'subnets')
    cell = renamed_attribute('LatencyController.cell', 'subnet')

    @property
    def target_ms(self) -> float:
        """The latency to hold, in milliseconds."""
        return self._target_ms

    @target_ms.setter
    def target_ms(self, value: float) -> None:
        self._target_ms = check_positive(value, 'target_ms', 'milliseconds', finite=True)

    def update(self, latency_ms: float) -> MeasuredSubnet:
        """Record the latency of a frame that ran with ``subnet``.

        Args:
            latency_ms: The measured latency in milliseconds.

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
            return self.subnet  # the first frames of a program are slow ones
        if self._climbed_from is not None and self._since_switch > 2 * self._window:
            self._wait, self._climbed_from = self._shortest_wait, None  # the climb has lasted
        if self._predict(self._index) > LEAVE * self.target_ms:
            self._move(min(self._index, self._best(1.0)))
        elif self._since_switch >= self._wait:
            self._move(max(self._index, self._best(CLIMB)))
        return self.subnet

    def _estimate(self, ratio: float) -> None:
        self._ratios.append(ratio)
        recent = list(self._ratios)[-RECENT:]
        if len(recent) == RECENT and abs(median(recent) / median(self._ratios) - 1) > JUMP:
            self._ratios = deque(recent, self._window)
            if (
                self._since_switch > RECENT
            ):  # or else it may be the sub-network that differs from the table, not the load
                self._wait, self._climbed_from = self._shortest_wait, None
        self.load = median(self._ratios)

    def _predict(self, index: int) -> float:
        return self.load * self._latencies[index]

    def _best(self, part: float) -> int:
        """Index of the best sub-network that is predicted to be within a share of the target, or of the fastest."""
        fitting = [index for index in range(len(self.subnets)) if self._predict(index) <= part * self.target_ms]
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
