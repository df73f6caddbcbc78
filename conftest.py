"""Fixtures of the tests and of the examples in docstrings."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.registry import DefaultScope

import mmmutual
from mmmutual.upstream import set_coco_reader
from tests.support.inferencers import WIDTHS, save_detector, table
from tests.support.query_detectors import query_detector
from tests.support.small_detectors import stock_detector
from tests.support.tiny import ROOT, draw_tiny

# Without tests and examples, and not to be imported: test_mmpretrain.py tests those of mmpretrain, which is optional,
# in separate processes.
collect_ignore = [
    'mmmutual/classification',
    'mmmutual/layers/mmpretrain_layers.py',
    'mmmutual/slimming/rules_mmpretrain.py',
    'tests/data',
    'tests/integration/mmpretrain',
    'tests/support',
]


@pytest.fixture(scope='session', autouse=True)
def _mmdet_scope():
    register_all_modules(init_default_scope=True)


@pytest.fixture(autouse=True)
def _global_state():
    """Each test starts in mmdet's scope, with mmdet's reader of COCO files and one seed, whatever ran before it."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
    set_coco_reader(COCO)


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """A drawn data set of eight training and four validation images."""
    return draw_tiny(tmp_path_factory.mktemp('tiny') / 'shapes')


@pytest.fixture(scope='session')
def tiny_detector(tiny_data, tmp_path_factory) -> Path:
    """A folder with a detector's ``config.py`` and, with statistics for every width, ``model.pth``."""
    return save_detector(tiny_data, tmp_path_factory.mktemp('detector'))


@pytest.fixture
def without_mmpretrain(monkeypatch, tmp_path):
    """As if mmpretrain were not installed; tests leave it out of their process, since it replaces torchvision."""
    monkeypatch.setattr('mmmutual.environment.MMPRETRAIN_FOLDER', tmp_path / 'nowhere')
    monkeypatch.setattr('mmmutual.environment._import_torchvision', lambda: None)
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    monkeypatch.setattr('mmmutual.environment.find_spec', lambda name: None)


@pytest.fixture(autouse=True)
def _example(request, monkeypatch):
    """Give an example in a docstring the names that it uses without a definition, and the files that it reads."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    names = request.getfixturevalue('doctest_namespace')
    names.update(copy=copy, torch=torch, mmmutual=mmmutual, table=table())
    text = ''.join(example.source for example in request.node.dtest.examples)
    if 'detr' in text:
        names['detr'] = query_detector('detr')
    if 'detector' in text or 'model' in text:
        names['detector'] = MODELS.build(stock_detector())
        names['model'] = copy.deepcopy(names['detector'])
        mmmutual.make_slimmable_(names['model'], WIDTHS)
    if request.node.name.endswith('AdaptiveInferencer'):
        monkeypatch.chdir(request.getfixturevalue('tiny_detector'))
