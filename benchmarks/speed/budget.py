"""A limit in seconds for all parts of a benchmark together."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """The time that is left; it starts to run when it is made.

    Args:
        seconds: The limit.
        clock: Returns seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock, self.start = seconds, clock, clock()

    @property
    def left(self) -> float:
        """Seconds, 0 at the end."""
        return max(0.0, self.seconds - (self.clock() - self.start))

    def refusal(self, part: str, seconds: float) -> str:
        """Why a part does not start.

        Args:
            part: Its name.
            seconds: The seconds that it needs.

        Returns:
            A sentence, empty if the part fits.
        """
        if self.left >= seconds:
            return ''
        return f'{part} is left out: it needs {seconds:.0f} s, and {self.left:.0f} of {self.seconds:.0f} s are left'

    def until(self, seconds: float) -> float:
        """The time of the clock at which a part ends that may use some seconds, or the rest if that is less."""
        return self.clock() + min(seconds, self.left)
