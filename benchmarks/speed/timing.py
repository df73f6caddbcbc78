"""Time calls in turns in one process, so that drift of the machine affects all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Times = dict[str, list[float]]


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call, including the work on a GPU."""
    _wait_for_gpu()
    start = time.perf_counter()
    call()
    _wait_for_gpu()
    return (time.perf_counter() - start) * 1e3


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1, until: float = math.inf
) -> Times:
    """Time each call once a round; the order is rotated by one in each round.

    Args:
        calls: The timed calls, by name.
        rounds: Number of timed rounds.
        warmup: Number of rounds before the timed ones.
        until: The time of ``time.monotonic`` after which no round starts, except for the first timed one.

    Returns:
        Milliseconds of each call, by round.
    """
    names, times = list(calls), {name: [] for name in calls}
    for index in range(warmup + rounds):
        if index > warmup and time.monotonic() > until:
            break
        first = index % len(names)
        for name in names[first:] + names[:first]:
            spent = timed(calls[name])
            if index >= warmup:
                times[name].append(spent)
    return times


def ratios(times: Mapping[str, Sequence[float]], ours: str, reference: str) -> list[float]:
    """Ratios of the times of two calls in the same round."""
    return [first / second for first, second in zip(times[ours], times[reference])]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; a single value is returned three times."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return low, middle, high


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
