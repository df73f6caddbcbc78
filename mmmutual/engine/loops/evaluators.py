"""One evaluator for each sub-network."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from mmmutual.upstream import coco_ground_truth

from ..sampling import Subnet


def evaluator_for(evaluator: Evaluator, subnet: Subnet) -> Evaluator:
    """A copy of an evaluator that collects and writes the results of one sub-network.

    The ground truth of COCO metrics is shared, not copied. Files are written next to those of the original, with the
    name of the sub-network in their names.
    """
    shared = [coco_ground_truth(metric) for metric in evaluator.metrics]
    clone = copy.deepcopy(evaluator, {id(api): api for api in shared if api is not None})
    for metric in clone.metrics:
        if getattr(metric, 'outfile_prefix', None):
            metric.outfile_prefix = f'{metric.outfile_prefix}_{subnet}'
        if getattr(metric, 'out_file_path', None):
            path = Path(metric.out_file_path)
            metric.out_file_path = str(path.with_name(f'{path.stem}_{subnet}{path.suffix}'))
    return clone


def fill_missing(results: Mapping[Subnet, dict]) -> list[Subnet]:
    """Complete the metrics of sub-networks that detected nothing, in place.

    MMDetection's metrics omit values that they cannot compute without detections. If another sub-network has a number,
    the value is set to 0, or to -1 if all others have -1, which marks an object area without data in COCO.

    Args:
        results: Metrics of each sub-network.

    Returns:
        The sub-networks that lacked a metric.
    """
    known: dict[str, list[float]] = {}
    for metrics in results.values():
        for name, value in metrics.items():
            if isinstance(value, Real):
                known.setdefault(name, []).append(float(value))
    incomplete = [subnet for subnet, metrics in results.items() if not known.keys() <= metrics.keys()]
    for subnet in incomplete:
        missing = {name: -1.0 if set(values) == {-1.0} else 0.0 for name, values in known.items()}
        results[subnet].update({name: value for name, value in missing.items() if name not in results[subnet]})
    return incomplete


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output of metrics for each sub-network, except for warnings."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
