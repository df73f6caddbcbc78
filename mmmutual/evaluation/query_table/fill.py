"""Fill a query table: evaluate, count and time each sub-network of a grid; a killed run continues where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from torch import nn

from mmmutual.checkpoint import check_architecture, check_mutual, read_checkpoint, warn_of_other_classes
from mmmutual.checkpoint.fingerprint import check_identity, identity
from mmmutual.config import build_model, nominal_size, scale_pipeline
from mmmutual.engine import Subnet, SubnetTestLoop, check_model, prepare
from mmmutual.engine.image_sides import fit_padding
from mmmutual.engine.loops.evaluators import quiet
from mmmutual.layers import (
    check_decoder_layers,
    check_ratios,
    evaluated_widths,
    frozen,
    get_decoder_layers,
    get_width,
    set_decoder_layers,
    set_width,
    use_decoder_layers,
    use_width,
)
from mmmutual.number_checks import check_whole
from mmmutual.progress import Progress

from ..latency import device_name, measure_latency
from ..multiply_adds import count_multiply_adds
from ..parameter_counts import count_parameters
from ..subnet_table import main_metrics
from .table import MeasuredSubnet, QueryTable

IMAGES = 5  # test images that latency is measured on; the warm-up uses each of them
Pass = tuple[float, int | None]  # over the data: a scale and a number of decoder layers
Lacking = dict[Pass, list[float]]  # the widths to evaluate in each pass
BAR = '{desc} {percentage:3.0f}%|{bar}| {elapsed} passed, {remaining} left'


def fill_query_table(
    config: Config,
    checkpoint: str | Path,
    path: str | Path,
    widths: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
    repeats: int = 30,
    force: bool = False,
    remeasure: bool = False,
    decoder_layers: Sequence[int] | None = None,
) -> QueryTable:
    """Write the query table of a grid of sub-networks; those in the file already are not evaluated again.

    The table is saved after each scale and number of decoder layers, so that a killed run loses at most one pass over
    the data. The file keeps sub-networks outside of the grid. Latency is measured at the end, of all sub-networks in
    turn.

    Args:
        config: An MMDetection config with a ``work_dir``.
        checkpoint: The trained weights.
        path: The JSON file.
        widths: Width multipliers; None for those that ``test_cfg`` evaluates, by default the model's grid.
        scales: Input scales; None for those of ``test_cfg``, or 1.0.
        repeats: Timed calls of each sub-network.
        force: Evaluate all again, whatever the file holds.
        remeasure: Measure the latency again, for example on another device.
        decoder_layers: Numbers of decoder layers of a DETR-like detector; None for those of ``test_cfg``, or all.

    Returns:
        The complete table.

    Raises:
        FileNotFoundError: If the checkpoint or the data is missing.
        TypeError: If widths, scales or decoder layers are not numbers.
        ValueError: If the file is damaged or belongs to another checkpoint, config or data; if widths, scales or
            decoder layers are out of range or unknown to the model; if its multiply-adds cannot be counted; if
            ``repeats`` is below 1; or if ``path`` does not end in .json.
    """
    check_whole(repeats, 'repeats', 1)
    if Path(path).suffix != '.json':  # a slip must not overwrite some other file
        raise ValueError(f'the query table is a JSON file: its path must end in .json, but is {path}')
    widths = widths or config.test_cfg.get('widths')
    model = build_model(config)
    widths = check_ratios(widths) if widths else _test_widths(model, config, checkpoint)
    layers = check_decoder_layers(model, decoder_layers or config.test_cfg.get('decoder_layers'))
    scales = check_ratios(scales or config.test_cfg.get('scales') or (1.0,), 'scales')
    expected = identity(config, checkpoint)
    table: QueryTable | None = None
    subnets: tuple[MeasuredSubnet, ...] = ()
    if not force and Path(path).exists():
        table = QueryTable.load(path)
        check_identity(table.context, expected, path)
        subnets = table.subnets
    there = {subnet.key for subnet in subnets}
    lacking = {
        (scale, number): [width for width in widths if Subnet(width, scale, number) not in there]
        for scale, number in product(scales, layers)
    }
    lacking = {data_pass: some for data_pass, some in lacking.items() if some}
    if table is not None and table.complete and not lacking and not remeasure:
        return table

    runner = _runner(config, checkpoint, lacking)
    context = {**expected, **_context(config, checkpoint, runner.model, repeats)}
    for found in _evaluate(runner, context['size'], lacking):
        subnets = (*subnets, *found)
        if any(subnet.metrics for subnet in subnets):
            subnets = _same_metrics(subnets)
            QueryTable(subnets, context, complete=False).save(path)
    subnets = _same_metrics(subnets)
    table = QueryTable(_time(runner.model, config, subnets, repeats), context)
    table.save(path)
    return table


def _test_widths(model: nn.Module, config: Config, checkpoint: str | Path) -> tuple[float, ...]:
    """The widths of the model's grid that the test loop evaluates."""
    try:
        return evaluated_widths(model, num_widths=config.test_cfg.get('num_widths'))
    except ValueError:
        check_mutual(model, read_checkpoint(checkpoint), checkpoint, config.filename)
        raise


def _runner(config: Config, checkpoint: str | Path, lacking: Lacking) -> Runner:
    """A runner that is ready to test; its own test loop is the first pass, if any."""
    content = read_checkpoint(checkpoint)
    prepare(config, splits=('test',))
    model = check_model(config, splits=('test',))
    check_mutual(model, content, checkpoint, config.filename)
    check_architecture(model, content, checkpoint)
    warn_of_other_classes(config, content, checkpoint)
    config = config.copy()
    config.load_from, config.resume = str(checkpoint), False
    config.launcher = 'none'  # one process fills the table, however many trained the checkpoint
    config.log_level = 'WARNING'  # the terminal belongs to the progress bar
    if lacking:
        config.test_cfg = _loop(config.test_cfg, *next(iter(lacking.items())))
    with quiet():
        runner = Runner.from_cfg(config)
        runner.call_hook('before_run')
        runner.load_or_resume()
    fit_padding(runner.model)
    return runner


def _loop(test_cfg: Mapping, data_pass: Pass, widths: Sequence[float]) -> dict:
    """Config of the loop that evaluates some widths in one pass over the data."""
    options = {name: test_cfg[name] for name in ('fp16', 'calibration_batches') if name in test_cfg}
    scale, number = data_pass
    if number is not None:
        options['decoder_layers'] = (number,)
    return dict(type='SubnetTestLoop', widths=widths, scales=(scale,), report=False, **options)


def _context(config: Config, checkpoint: str | Path, model: nn.Module, repeats: int) -> dict:
    size = nominal_size(config.test_dataloader)
    if size is None:
        raise ValueError(
            'a query table needs the size of the test images, but the test pipeline has no Resize with a scale. Add '
            "dict(type='Resize', scale=(width, height), keep_ratio=True) to it"
        )
    return dict(
        config=Path(config.filename or config.work_dir).name,
        checkpoint=Path(checkpoint).name,
        size=list(size),
        device=device_name(next(model.parameters()).device),
        threads=torch.get_num_threads(),
        batch_size=1,
        latency=dict(images=IMAGES, warmup=IMAGES, repeats=repeats),
        versions={name: import_module(name).__version__ for name in ('torch', 'mmdet', 'mmmutual')},
        created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


class _ProgressHook(Hook):
    """Advances a bar by the multiply-adds of each batch: batches of small scales take less time."""

    def __init__(self, bar: Progress) -> None:
        self.bar, self.step = bar, 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        self.bar.update(self.step)


def _evaluate(runner: Runner, size: Sequence[int], lacking: Lacking) -> Iterator[list[MeasuredSubnet]]:
    """The measured sub-networks of one pass over the data after the other, without latency."""
    if not lacking:
        return
    first, *others = lacking
    with quiet():
        loops: dict[Pass, SubnetTestLoop] = {first: runner.test_loop}
        for data_pass in others:
            loops[data_pass] = runner.build_test_loop(_loop(runner.cfg.test_cfg, data_pass, lacking[data_pass]))
    for loop in loops.values():
        loop.check_widths()
    counts = {
        data_pass: {width: _count(runner.model, Subnet(width, *data_pass), size) for width in widths}
        for data_pass, widths in lacking.items()
    }
    steps = {data_pass: sum(count for count, _ in counts[data_pass].values()) for data_pass in lacking}
    total = sum(steps[data_pass] * len(loop.dataloader) for data_pass, loop in loops.items())
    with Progress(total=total, bar_format=BAR, smoothing=0.05) as bar:
        progress = _ProgressHook(bar)
        runner.register_hook(progress)
        for data_pass, loop in loops.items():
            scale, number = data_pass
            layers = '' if number is None else f', {number} decoder layers'
            bar.set_description(f'scale {scale:g}{layers}, {len(lacking[data_pass])} widths')
            progress.step = steps[data_pass]
            with quiet():
                loop.run()
            yield [
                MeasuredSubnet(width, scale, *counts[data_pass][width], main_metrics(found), decoder_layers=number)
                for width in lacking[data_pass]
                for found in [loop.results[Subnet(width, *data_pass)]]
            ]


def _count(model: nn.Module, subnet: Subnet, size: Sequence[int]) -> tuple[int, int]:
    """Multiply-adds and parameters."""
    height, width_px = (round(side * subnet.scale) for side in size)
    with use_width(model, subnet.width), use_decoder_layers(model, subnet.decoder_layers):
        return count_multiply_adds(model, (height, width_px))['total'], count_parameters(model)


def _same_metrics(subnets: Sequence[MeasuredSubnet]) -> tuple[MeasuredSubnet, ...]:
    """The sub-networks in order. If some have a metric, it is 0 for those without: they detected nothing."""
    names = dict.fromkeys(name for subnet in subnets for name in subnet.metrics)
    if not names:
        raise ValueError('no sub-network detected anything, so there is no metric. Is the checkpoint trained?')
    filled = (replace(subnet, metrics={name: subnet.metrics.get(name, 0.0) for name in names}) for subnet in subnets)
    return tuple(sorted(filled, key=lambda subnet: (-subnet.scale, -subnet.width, -(subnet.decoder_layers or 0))))


@torch.no_grad()
def _time(
    model: nn.Module, config: Config, subnets: Sequence[MeasuredSubnet], repeats: int
) -> tuple[MeasuredSubnet, ...]:
    """The sub-networks with their latency: one image from the loaded batch to the detections, masks pasted."""
    with quiet():
        samples = {scale: _samples(config, scale) for scale in {subnet.scale for subnet in subnets}}
    keys = [subnet.key for subnet in subnets]
    fp16 = config.test_cfg.get('fp16', False)

    def detect(subnet: Subnet, turn: int) -> None:
        batches = samples[subnet.scale]
        with autocast(enabled=fp16):
            model.test_step(batches[turn % len(batches)])

    model.eval()
    calls = len(keys) * (IMAGES + repeats)
    restored = use_width(model, get_width(model)), use_decoder_layers(model, get_decoder_layers(model))
    with restored[0], restored[1], frozen(model), Progress(desc='latency', total=calls, bar_format=BAR) as bar:
        latencies = measure_latency(
            detect,
            keys,
            warmup=IMAGES,
            repeats=repeats,
            prepare=lambda subnet: _switch(model, subnet),
            on_call=lambda subnet: bar.update(),
        )
    return tuple(
        replace(subnet, latency_ms=round(latency.median_ms, 3), latency_p90_ms=round(latency.p90_ms, 3))
        for subnet, latency in zip(subnets, latencies.values())
    )


def _switch(model: nn.Module, subnet: Subnet) -> None:
    set_width(model, subnet.width)
    if subnet.decoder_layers is not None:
        set_decoder_layers(model, subnet.decoder_layers)


def _samples(config: Config, scale: float) -> list[dict]:
    """Batches of one test image each, spread over the data."""
    loader = Runner.build_dataloader(scale_pipeline(config.test_dataloader, scale))
    last = len(loader.dataset) - 1
    indices = sorted({round(index) for index in np.linspace(0, last, IMAGES)})
    return [loader.collate_fn([loader.dataset[index]]) for index in indices]
