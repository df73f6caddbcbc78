"""One evaluator for each sub-network."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from ..sampling import Subnet


def evaluator_for(evaluator: Evaluator, subnet: Subnet) -> Evaluator:
    """A copy of an evaluator that collects and writes the results of one sub-network.

    The ground truth that COCO metrics hold is shared, not copied; files are written beside the original's, with the
    sub-network's name in theirs.
    """
    shared = [getattr(metric, '_coco_api', None) for metric in evaluator.metrics]
    clone = copy.deepcopy(evaluator, {id(api): api for api in shared if api is not None})
    for metric in clone.metrics:
        if getattr(metric, 'outfile_prefix', None):
            metric.outfile_prefix = f'{metric.outfile_prefix}_{subnet}'
        if getattr(metric, 'out_file_path', None):
            path = Path(metric.out_file_path)
            metric.out_file_path = str(path.with_name(f'{path.stem}_{subnet}{path.suffix}'))
    return clone


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the pages that a metric prints for each sub-network off the terminal; warnings still come through."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
