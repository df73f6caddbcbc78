"""Simulate the latency controller under a changing load: python benchmarks/controller_simulation.py -o FIGURE.

The controller runs on an invented query table. The program prints the result of each phase of the load and draws it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from mmmutual.evaluation import MeasuredSubnet
from mmmutual.inference import LatencyController

PHASES = ((1.0, 200), (1.8, 200), (1.0, 200), (1.35, 200), (1.8, 200), (1.0, 200))  # load, frames
TARGET_MS = 60.0
STEADY = 50  # frames at the end of each phase


@dataclass(frozen=True)
class Frame:
    """One simulated frame: the load it met, the sub-network that ran, and its latency in milliseconds."""

    load: float
    subnet: MeasuredSubnet
    latency_ms: float


def make_subnets(count: int = 16, fastest_ms: float = 25.0, slowest_ms: float = 75.0) -> list[MeasuredSubnet]:
    """A front of sub-networks with latencies that grow by one factor, about 1.08 by default."""
    latencies = np.geomspace(fastest_ms, slowest_ms, count)
    return [
        MeasuredSubnet(
            width=round(0.25 + 0.75 * index / (count - 1), 2),
            scale=1.0,
            multiply_adds=round(1e9 * latency),
            parameters=1,
            metrics={'box mAP': 0.3 + 0.1 * index / (count - 1)},
            latency_ms=float(latency),
        )
        for index, latency in enumerate(latencies)
    ]


def simulate(
    controller: LatencyController,
    phases: Sequence[tuple[float, int]] = PHASES,
    jitter: float = 0.05,
    spikes: float = 0.01,
    seed: int = 0,
) -> list[Frame]:
    """Run a controller under a load.

    Args:
        controller: A new controller.
        phases: Load factor and number of frames of each phase.
        jitter: Standard deviation of the noise, relative to the latency.
        spikes: Probability of a frame with three times the latency.
        seed: Seed of the noise.

    Returns:
        The frames in order.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for load, count in phases:
        for _ in range(count):
            subnet = controller.subnet
            noise = max(0.5, rng.normal(1, jitter)) * (3 if rng.random() < spikes else 1)
            latency = load * subnet.latency_ms * noise
            frames.append(Frame(load, subnet, latency))
            controller.update(latency)
    return frames


def split(frames: Sequence[Frame], phases: Sequence[tuple[float, int]] = PHASES) -> list[list[Frame]]:
    """The frames of each phase."""
    ends = np.cumsum([count for _, count in phases])
    return [list(frames[end - count : end]) for end, (_, count) in zip(ends, phases)]


def switches(frames: Sequence[Frame]) -> int:
    """How often the sub-network changes."""
    return sum(before.subnet != after.subnet for before, after in pairwise(frames))


def recovery(frames: Sequence[Frame], target_ms: float, tolerance: float = 0.1) -> int:
    """Frames from the start of a phase until each later subnet's latency, noise apart, is within the tolerance."""
    off = [abs(frame.load * frame.subnet.latency_ms / target_ms - 1) > tolerance for frame in frames]
    return max((index + 1 for index, wrong in enumerate(off) if wrong), default=0)


def plot(frames: Sequence[Frame], target_ms: float, path: Path) -> None:
    """Draw load, latency, and the width that ran, over the frames."""
    figure = Figure(figsize=(9, 5.4), layout='constrained')
    load, latency, width = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2.4, 1.4))
    load.step(range(len(frames)), [frame.load for frame in frames], where='post', color='tab:gray')
    load.set(ylabel='load', ylim=(0.8, 2.0))
    without = [frame.latency_ms / frame.subnet.latency_ms * frames[0].subnet.latency_ms for frame in frames]
    latency.plot(without, '.', color='tab:orange', markersize=2, alpha=0.6, label='if it kept the first sub-network')
    latency.plot([frame.latency_ms for frame in frames], '.', markersize=3, label='with the controller')
    latency.axhline(target_ms, color='black', linewidth=1, label=f'target {target_ms:g} ms')
    latency.axhspan(0.9 * target_ms, 1.1 * target_ms, color='black', alpha=0.08, label='within 10 %')
    latency.set(ylabel='latency (ms)', ylim=(0, 2.4 * target_ms))
    latency.legend(loc='upper right', ncols=4, fontsize='small')
    width.step(range(len(frames)), [frame.subnet.width for frame in frames], where='post', color='tab:green')
    width.set(ylabel='width', xlabel='frame', ylim=(0.2, 1.05), xlim=(0, len(frames)))
    for axis in (load, latency, width):
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Simulate, print, draw."""
    parser = argparse.ArgumentParser(description='Simulate the latency controller under a changing load')
    parser.add_argument('-o', '--out', type=Path, default=Path('work_dirs/controller_simulation.png'))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    frames = simulate(LatencyController(make_subnets(), TARGET_MS), seed=args.seed)
    print(f'target {TARGET_MS:g} ms; a phase has {PHASES[0][1]} frames, the last {STEADY} are its steady part')
    print('load   recovery   steady mean   switches in the steady part')
    for phase in split(frames):
        steady = phase[-STEADY:]
        mean = fmean(frame.latency_ms for frame in steady)
        print(f'{phase[0].load:4.2f}   {recovery(phase, TARGET_MS):2d} frames   {mean:8.1f} ms   {switches(steady):8d}')
    plot(frames, TARGET_MS, args.out)
    print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
