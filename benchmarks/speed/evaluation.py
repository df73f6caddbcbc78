"""Evaluating four widths in one run over four runs of one width each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from mmengine.runner import Runner

from mmmutual.engine.loops import SubnetTestLoop

from .batches import drawn_config, quiet
from .networks import pretend_calibrated
from .options import Options
from .table import Row
from .timing import quartiles, ratios, take_turns

WIDTHS = (1.0, 0.75, 0.5, 0.25)
TARGETS = {1024: 0.9, 128: 1.0}  # by the size of the images on disk


def measure(options: Options, images: int) -> list[Row]:
    """The shapes example at 128 pixels, on images of 1024 pixels, where loading costs, and of 128."""
    rows = []
    for image_size, target in TARGETS.items():
        with tempfile.TemporaryDirectory() as folder:
            times = take_turns(_calls(Path(folder), image_size, images, options.device), options.rounds)
        reference = f'four runs: {quartiles(times["four"])[1]:.0f} ms for {images} images'
        what = f'evaluating 4 widths in one run, images of {image_size} pixels'
        rows.append(Row(what, tuple(ratios(times, 'one', 'four')), reference, target))
    return rows


def _calls(folder: Path, image_size: int, images: int, device: str) -> dict[str, Callable[[], object]]:
    config = drawn_config(folder, image_size, images)
    config.device, config.experiment_name = device, f'evaluation_{image_size}'
    config.visualizer.name = config.experiment_name
    with quiet():
        runner = Runner.from_cfg(config)
        runner.call_hook('before_run')  # the logger sets its file there
        pretend_calibrated(runner.model)
        one, *four = (_loop(runner, widths) for widths in (WIDTHS, *((width,) for width in WIDTHS)))
    calls = dict(one=lambda: _run(one), four=lambda: _run(*four))
    for call in calls.values():
        call()
    found = {subnet: metrics for loop in four for subnet, metrics in loop.results.items()}
    if one.results != found:
        raise RuntimeError(f'one run gives other metrics than four: {one.results} and {found}')
    return calls


def _loop(runner: Runner, widths: tuple[float, ...]) -> SubnetTestLoop:
    config = runner.cfg
    return SubnetTestLoop(runner, config.test_dataloader, config.test_evaluator, widths=widths, report=False)


def _run(*loops: SubnetTestLoop) -> None:
    with quiet():
        for loop in loops:
            loop.run()
