"""The share of an iteration in which the GPU has no work, for the hook and for the same passes of static networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .batches import training_batch
from .iterations import TimedIteration, separate_passes
from .networks import slimmable, static
from .options import Options
from .table import Row
from .timing import quartiles, take_turns


def measure(options: Options) -> list[Row]:
    """The hook's iteration and the same passes through four static networks.

    The profiler slows the CPU down, but not the kernels of a GPU. So it measures the time of the kernels only, and the
    iterations are timed without it.
    """
    config = options.config()
    batch = training_batch(options, config)
    model = slimmable(config, options.device)
    mutual = TimedIteration(model, batch, options.widths)
    networks = {subnet.width: static(model, subnet.width, options.device) for subnet in mutual.subnets}
    calls = {'mutual iteration': mutual, 'static passes': separate_passes(networks, batch, mutual.subnets)}
    times = take_turns(calls, options.rounds, until=options.until)
    rows = []
    for name, call in calls.items():
        busy = busy_time(call, options.device)
        shares = tuple(100 * max(0.0, 1 - busy / each) for each in times[name])
        reference = f'busy {busy:.1f} of {quartiles(times[name])[1]:.1f} ms'
        rows.append(Row(f'waiting of the device, {name}, batch {options.batch_size}', shares, reference, unit=' %'))
    return rows


def busy_time(call: Callable[[], object], device: str) -> float:
    """Milliseconds in which the device runs at least one kernel of a call.

    Args:
        call: An iteration that has run before.
        device: ``'cuda'``; on ``'cpu'`` the operations count as kernels.

    Returns:
        The time.
    """
    kind, activity = DeviceType.CPU, ProfilerActivity.CPU
    if torch.device(device).type == 'cuda':
        kind, activity = DeviceType.CUDA, ProfilerActivity.CUDA
        torch.cuda.synchronize()
    with profile(activities=[activity]) as profiler:
        call()
        if kind == DeviceType.CUDA:
            torch.cuda.synchronize()
    events = (event for event in profiler.events() if event.device_type == kind and not event.is_user_annotation)
    kernels = [event.time_range for event in events]
    if not kernels:
        raise RuntimeError(f'the profiler has seen no work on {device}: is CUPTI there, and is its use allowed?')
    return union((each.start, each.end) for each in kernels) / 1e3  # microseconds


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals, which may overlap."""
    total, end = 0.0, float('-inf')
    for first, last in sorted(intervals):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total
