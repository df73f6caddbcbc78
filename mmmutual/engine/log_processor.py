"""Shorter log lines for a training of several sub-networks."""

from __future__ import annotations

import re

from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner

LOSS_TERMS = re.compile(r'  w[\d.]+/(?!loss:)\S+: \S+')
TOTAL_LOSS = re.compile(r'  w([\d.]+)/loss: \S+')
METRICS = re.compile(r'  w[\d.]+_s[\d.]+/\S+: \S+')


@LOG_PROCESSORS.register_module()
class SubnetLogProcessor(LogProcessor):
    """MMEngine's log processor with shorter lines.

    For the narrower sub-networks the terminal shows only the total loss (``w0.25/loss``), the widest first. Their
    metrics are in the table that the evaluation loops print. Everything is still recorded in ``vis_data`` and by the
    visualizer's backends.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Scalars to record, and the line to print after an iteration."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        return tag, _sorted_widths(LOSS_TERMS.sub('', line))

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict, str]:
        """Scalars to record, and the line to print after an evaluation."""
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        return tag, METRICS.sub('', line)


def _sorted_widths(line: str) -> str:
    """Sort the losses in a line by width; MMEngine lists them in the order in which the widths were first drawn."""
    losses = sorted(TOTAL_LOSS.finditer(line), key=lambda loss: -float(loss[1]))
    return TOTAL_LOSS.sub('', line) + ''.join(loss[0] for loss in losses)
