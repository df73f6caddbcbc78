"""An inferencer of the tiny detector: its table, its clock, its results."""

import json
import shutil
from pathlib import Path

import torch
from mmdet.registry import MODELS

from mmmutual.engine import calibrate
from mmmutual.evaluation import MeasuredSubnet, QueryTable
from mmmutual.inference import AdaptiveInferencer
from tests.support.tiny import build_runner, tiny_config

WIDTHS, SCALES = (1.0, 0.75, 0.5, 0.25), (1.0, 0.5)


def table(widths=WIDTHS, **changes) -> QueryTable:
    """A sub-network costs width x scale, 100 ms and 100 multiply-adds at most, and reaches as much."""
    subnets = [
        MeasuredSubnet(width, scale, round(100 * width * scale), 1, {'box mAP': width * scale}, 100 * width * scale)
        for width in widths
        for scale in SCALES
    ]
    context = dict(
        config='', checkpoint='', checkpoint_sha256='', size=[64, 64], device='', threads=1, batch_size=1, versions={},
        created='',
    )  # fmt: skip
    return QueryTable(tuple(subnets), {**context, **changes})


def save_detector(data: Path, folder: Path) -> Path:
    """Write a config, a checkpoint of random weights with statistics for every width, and an image into a folder."""
    config = tiny_config(data, folder / 'work')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    calibrate(model, list(build_runner(config.copy()).train_dataloader)[:2], widths=WIDTHS)
    meta = dict(dataset_meta=dict(classes=list(config.classes)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'model.pth')
    config.dump(folder / 'config.py')
    shutil.copy(min((data / 'val').iterdir()), folder / 'image.png')
    return folder


class Clock:
    """Advances by a sub-network's latency in milliseconds between the start and the end of a batch."""

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


def subnets(result) -> list[tuple[float, float]]:
    return [(subnet['width'], subnet['scale']) for subnet in result['subnets']]


def same(first, second) -> bool:
    return json.dumps(first['predictions']) == json.dumps(second['predictions'])
