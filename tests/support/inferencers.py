"""An inferencer of the tiny detector: its table, its clock, its results."""

import json

from mmmutual.evaluation import Cell, QueryTable
from mmmutual.inference import AdaptiveInferencer

WIDTHS, SCALES = (1.0, 0.75, 0.5, 0.25), (1.0, 0.5)


def table(widths=WIDTHS, **changes) -> QueryTable:
    """A cell costs width x scale, 100 ms and 100 multiply-adds at most, and reaches as much."""
    cells = [
        Cell(width, scale, round(100 * width * scale), 1, {'box mAP': width * scale}, 100 * width * scale)
        for width in widths
        for scale in SCALES
    ]
    context = dict(
        config='', checkpoint='', checkpoint_sha256='', size=[64, 64], device='', threads=1, batch_size=1, versions={},
        created='',
    )  # fmt: skip
    return QueryTable(tuple(cells), {**context, **changes})


class Clock:
    """Goes on by a sub-network's latency in milliseconds between the start and the end of a batch."""

    def __init__(self, latency, inferencer) -> None:
        self.latency, self.inferencer, self.calls, self.seconds = latency, inferencer, 0, 0.0

    def __call__(self) -> float:
        self.calls += 1
        if self.calls % 2 == 0:
            self.seconds += self.latency(self.inferencer.subnet) / 1e3
        return self.seconds


def make(setting, **kwargs) -> AdaptiveInferencer:
    arguments = dict(model=setting / 'config.py', weights=setting / 'model.pth', device='cpu', show_progress=False)
    return AdaptiveInferencer(**{**arguments, **kwargs})


def cells(result) -> list[tuple[float, float]]:
    return [(cell['width'], cell['scale']) for cell in result['cells']]


def same(first, second) -> bool:
    return json.dumps(first['predictions']) == json.dumps(second['predictions'])
