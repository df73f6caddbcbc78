"""A tiny detector with random weights, and an inferencer of it that tests share."""

import pytest
import torch
from mmdet.registry import MODELS

from mmmutual.engine import calibrate
from mmmutual.inference import AdaptiveInferencer
from tests.support.inferencers import WIDTHS, Clock, make, table
from tests.support.tiny import build_runner, tiny_config


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    """A config and a checkpoint with statistics for every width."""
    folder = tmp_path_factory.mktemp('inferencer')
    config = tiny_config(tiny_data, folder / 'work')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    calibrate(model, list(build_runner(config.copy()).train_dataloader)[:2], widths=WIDTHS)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=list(config.classes)))),
        folder / 'model.pth',
    )
    config.dump(folder / 'config.py')
    return folder


@pytest.fixture(scope='module')
def shared(setting) -> AdaptiveInferencer:
    return make(setting, table=table())


@pytest.fixture
def inferencer(shared) -> AdaptiveInferencer:
    shared.controller = None
    shared.clock = Clock(lambda subnet: 100 * subnet.width * subnet.scale, shared)
    return shared


@pytest.fixture
def images(tiny_data) -> list[str]:
    return sorted(map(str, (tiny_data / 'val').iterdir()))
