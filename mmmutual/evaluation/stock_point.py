"""The accuracy and the cost of the stock detector that an elastic one is made from."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from mmmutual.checkpoint.atomic_write import write_whole
from mmmutual.checkpoint.fingerprint import identity
from mmmutual.engine.launch import build_runner

from .subnet_report import subnet_rows

FILE = 'stock.json'
ALONE = dict(widths=(1.0,), scales=(1.0,), calibration_batches=0, report=False)


def stock_point(config: Config, checkpoint: str | Path) -> dict[str, float]:
    """Evaluate a stock checkpoint, or read the result of a former call for the same checkpoint, model and data.

    The slimmable detector at width 1.0 is the stock detector, so the config of the elastic detector is used.

    Args:
        config: Config of the elastic detector; the result is written to its work dir, below ``stock``.
        checkpoint: The stock weights.

    Returns:
        A row as ``subnet_rows`` makes it, at width and scale 1.0.
    """
    alone = copy.deepcopy(config)
    alone.work_dir = str(Path(config.work_dir) / 'stock')
    alone.load_from, alone.resume = str(checkpoint), False
    alone.test_cfg = {**config.test_cfg, **ALONE}
    file = Path(alone.work_dir) / FILE
    belongs_to = identity(alone, checkpoint)
    if file.is_file() and (known := json.loads(file.read_text()))['identity'] == belongs_to:
        return known['row']
    runner = build_runner(alone)
    runner.test()
    row = subnet_rows(runner.test_loop)[0]
    if is_main_process():
        text = json.dumps(dict(identity=belongs_to, row=row), indent=1)
        write_whole(file, lambda part: part.write_text(text))
    return row
