"""The latency of calls, measured so that the drift of a machine favours none of them."""

from __future__ import annotations

import platform
import random
import re
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from mmmutual.number_checks import check_whole

Key = TypeVar('Key', bound=Hashable)


@dataclass(frozen=True)
class Latency:
    """Times of one call.

    Attributes:
        median_ms: The median in milliseconds.
        p90_ms: The 90th percentile in milliseconds.
    """

    median_ms: float
    p90_ms: float


def measure_latency(
    call: Callable[[Key, int], object],
    keys: Sequence[Key],
    warmup: int = 5,
    repeats: int = 30,
    prepare: Callable[[Key], object] | None = None,
    on_call: Callable[[Key], object] | None = None,
) -> dict[Key, Latency]:
    """Time a call for each of several keys.

    Calls alternate: each round makes one call for each key, in a new random order (from a fixed seed). So a slow phase
    of the machine affects all keys alike. If CUDA is in use, a call ends when the GPU has finished.

    Args:
        call: The timed function, ``call(key, round)``; rounds count from 0, the warm-up included.
        keys: The differences between the calls, for example sub-networks.
        warmup: Rounds that are not timed.
        repeats: Timed rounds.
        prepare: Called before each call, untimed, for example to switch the model.
        on_call: Called after each call, untimed, for example to advance a progress bar.

    Returns:
        The latency of each key.

    Raises:
        TypeError: If ``repeats`` or ``warmup`` is not a whole number.
        ValueError: If ``repeats`` is below 1, or ``warmup`` below 0.
    """
    check_whole(repeats, 'repeats', 1)
    check_whole(warmup, 'warmup', 0)
    order = random.Random(0)
    times: dict[Key, list[float]] = {key: [] for key in keys}
    for index in range(warmup + repeats):
        for key in order.sample(list(keys), len(keys)):
            if prepare is not None:
                prepare(key)
            _wait_for_gpu()
            start = time.perf_counter()
            call(key, index)
            _wait_for_gpu()
            if index >= warmup:
                times[key].append((time.perf_counter() - start) * 1e3)
            if on_call is not None:
                on_call(key)
    return {key: Latency(*map(float, np.percentile(values, (50, 90)))) for key, values in times.items()}


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    """The model of a GPU, or of this machine's processor."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*:\s*(.+)$', info.read_text(), re.MULTILINE) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()
