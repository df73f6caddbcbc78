"""The report of an evaluation of many sub-networks: a table in the log, and files next to the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmmutual.engine import Subnet, SubnetTestLoop, SubnetValLoop
from mmmutual.engine.unwrapped import unwrapped
from mmmutual.layers import use_decoder_layers

from .multiply_adds import count_grid
from .subnet_table import format_table, main_metrics

SubnetLoop = SubnetValLoop | SubnetTestLoop


def subnet_rows(loop: SubnetLoop, counts: Mapping[Subnet, int] | None = None) -> list[dict[str, float]]:
    """The sub-networks that a loop evaluated, with their choices, multiply-adds and main metrics.

    Args:
        loop: A loop that has run.
        counts: Multiply-adds of each sub-network; None to count them.

    Returns:
        A mapping for each sub-network; without multiply-adds if they cannot be counted.
    """
    counts = count_subnets(loop) if counts is None else counts
    rows = []
    for subnet, metrics in loop.results.items():
        row = {name: value for name, value in asdict(subnet).items() if value is not None}
        if subnet in counts:
            row['multiply_adds'] = counts[subnet]
        rows.append({**row, **main_metrics(metrics)})
    return rows


def count_subnets(loop: SubnetLoop) -> dict[Subnet, int]:
    """Multiply-adds of each sub-network of a loop at the nominal test size; empty, with a warning, if not countable."""
    if loop.size is None:
        return {}
    height, width = loop.size
    sizes = {scale: (round(height * scale), round(width * scale)) for scale in loop.scales}
    model, counts = unwrapped(loop.runner.model), {}
    try:
        for number in loop.decoder_layers:
            with use_decoder_layers(model, number):
                grid = count_grid(model, loop.widths, set(sizes.values()))
            counts.update({(width, size, number): count for (width, size), count in grid.items()})
    except ValueError as error:
        loop.runner.logger.warning(f'The table has no multiply-adds: {error}')
        return {}
    return {subnet: counts[subnet.width, sizes[subnet.scale], subnet.decoder_layers] for subnet in loop.subnets}


def write_report(
    rows: Sequence[Mapping[str, float]], folder: str | Path, stock: Mapping[str, float] | None = None
) -> dict[str, Path]:
    """Write ``subnets.json`` and, if multiply-adds and a metric are known, ``subnets.png``.

    Args:
        rows: Sub-networks as ``format_table`` accepts them.
        folder: The folder of the files.
        stock: The stock detector in the same form, which the plot shows as well.

    Returns:
        The paths under ``'table'`` and ``'plot'``.
    """
    from .plotting.subnet_plots import metrics_of, plot_subnets  # here, so that training imports no matplotlib

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {'table': folder / 'subnets.json'}
    paths['table'].write_text(json.dumps(list(map(dict, rows)), indent=1))
    if metrics_of(rows) and 'multiply_adds' in rows[0]:
        paths['plot'] = plot_subnets(rows, folder / 'subnets.png', stock=stock)
    return paths


@HOOKS.register_module()
class SubnetReportHook(Hook):
    """Logs the table of sub-networks after each evaluation; after a test it writes the table and a plot.

    ``SubnetValLoop`` and ``SubnetTestLoop`` register it, so a config need not name it.

    Args:
        stock: The stock detector as ``subnet_rows`` describes a sub-network, to compare with after a test: the table
            has it as its last row, and the plot as a point.
    """

    priority = 'VERY_LOW'

    def __init__(self, stock: Mapping[str, float] | None = None) -> None:
        self.stock = stock
        self._counts: dict[Subnet, int] | None = None

    def after_val(self, runner: Runner) -> None:
        """Log the table."""
        if isinstance(runner.val_loop, SubnetValLoop):
            if self._counts is None:  # a training validates many times
                self._counts = count_subnets(runner.val_loop)
            _log_table(runner, subnet_rows(runner.val_loop, self._counts))

    def after_test(self, runner: Runner) -> None:
        """Log the table; write the files if the loop's ``report`` is set."""
        loop = runner.test_loop
        if not isinstance(loop, SubnetTestLoop):
            return
        rows = subnet_rows(loop)
        _log_table(runner, [*rows, *([{**self.stock, 'width': 'stock'}] if self.stock else [])])
        if loop.report and is_main_process():
            for kind, path in write_report(rows, runner.log_dir, self.stock).items():
                runner.logger.info(f'{kind}: {path}')


def _log_table(runner: Runner, rows: Sequence[Mapping]) -> None:
    runner.logger.info('Sub-networks:\n' + format_table(rows))
