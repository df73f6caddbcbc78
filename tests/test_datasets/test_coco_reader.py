"""Upstream still has the names that mmmutual/upstream.py replaces, and reads files through them."""

import contextlib
import subprocess
import sys

import pytest
from mmdet.datasets import CocoDataset, Objects365V1Dataset, Objects365V2Dataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric, ov_coco_metric
from mmdet.registry import DATASETS

from mmmutual.upstream import set_coco_reader
from tests.support.small_coco import dataset, write

DATA_SETS = (CocoDataset, Objects365V1Dataset, Objects365V2Dataset)
METRICS = (CocoMetric, ov_coco_metric.OVCocoMetric)


class Reader(COCO):
    """Notes that it was used."""

    read = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        type(self).read += 1


@pytest.fixture(autouse=True)
def _stock_afterwards(monkeypatch):
    for kind in DATA_SETS:
        monkeypatch.setattr(kind, 'COCOAPI', COCO)  # raises if upstream has no such name
    for module in (coco_metric, ov_coco_metric):
        monkeypatch.setattr(module, 'COCO', COCO)
    monkeypatch.setattr(Reader, 'read', 0)


@pytest.mark.parametrize('kind', [kind.__name__ for kind in DATA_SETS])
@pytest.mark.integration
def test_data_sets_read_with_it(kind, tmp_path):
    write(tmp_path)
    with contextlib.redirect_stdout(None):
        DATASETS.build(dataset(tmp_path, type=kind))
        assert Reader.read == 0
        set_coco_reader(Reader)
        DATASETS.build(dataset(tmp_path, type=kind))
    assert Reader.read == 1


@pytest.mark.parametrize('kind', METRICS)
def test_metrics_read_with_it(kind, tmp_path):
    path = write(tmp_path)
    with contextlib.redirect_stdout(None):
        kind(str(path))
        assert Reader.read == 0
        set_coco_reader(Reader)
        assert isinstance(kind(str(path))._coco_api, Reader)


@pytest.mark.integration
def test_an_import_leaves_the_stock_reader(root):
    """Programs that call no tool read as mmdet does."""
    code = (
        'import mmmutual, mmmutual.engine\n'
        'from mmdet.datasets import CocoDataset\n'
        'from mmdet.datasets.api_wrappers import COCO\n'
        'from mmdet.evaluation.metrics import coco_metric\n'
        'assert CocoDataset.COCOAPI is COCO is coco_metric.COCO'
    )
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True, timeout=240)
