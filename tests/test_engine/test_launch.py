"""Errors of the user's input end the tools with one sentence, before a model is built."""

import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import coco_metric
from mmengine.config import Config

from mmmutual.datasets.completed_coco import CompletedCOCO
from mmmutual.engine import clear_errors, prepare
from mmmutual.engine.loss_guard import LossGuard
from mmmutual.engine.pass_losses import PassLosses
from mmmutual.layers import check_ratio
from tests.support.tools import load_tool


def model_from(checkpoint) -> dict:
    return dict(type='MaskRCNN', backbone=dict(init_cfg=checkpoint and dict(type='Pretrained', checkpoint=checkpoint)))


def without_data(model=None, **options) -> Config:
    return Config(dict(model=model or model_from('torchvision://resnet50'), **options))


def missing_data() -> dict:
    return dict(dataset=dict(type='CocoDataset', ann_file='nowhere.json'))


@pytest.fixture
def train_tool():
    return load_tool('train.py')


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision', None)


class TestClearErrors:
    @pytest.mark.parametrize('error', [ValueError, TypeError, FileNotFoundError, ImportError, ModuleNotFoundError])
    def test_of_the_input_end_the_program(self, error, capsys):
        with pytest.raises(SystemExit) as caught, clear_errors():
            raise error('widths=2: the largest is 1')
        assert caught.value.code == 1
        assert capsys.readouterr() == ('', 'error: widths=2: the largest is 1\n')

    def test_in_a_training_those_of_others_pass_through(self, capsys):
        """A ValueError of a user's own class is a defect, whose traceback is needed."""
        with pytest.raises(ValueError, match='a defect'), clear_errors(only_own=True):
            raise ValueError('a defect')
        with pytest.raises(SystemExit), clear_errors(only_own=True):
            check_ratio(2.0)
        assert capsys.readouterr().err.startswith('error: width must be above 0 and at most 1')

    def test_a_loss_that_is_not_finite_ends_a_training_with_one_sentence(self, capsys):
        with pytest.raises(SystemExit), clear_errors(only_own=True):
            LossGuard('raise').before_step([PassLosses('here', ['loss'], dict(loss=torch.tensor(torch.nan)))])
        assert capsys.readouterr().err.startswith('error: here loss is nan')

    @pytest.mark.parametrize('error', [RuntimeError, KeyError, AssertionError, KeyboardInterrupt, SystemExit])
    def test_others_pass_through(self, error, capsys):
        raised = error('a defect')
        with pytest.raises(error) as caught, clear_errors():
            raise raised
        assert caught.value is raised
        assert capsys.readouterr() == ('', '')

    def test_nothing_happens_without_one(self, capsys):
        with clear_errors():
            pass
        assert capsys.readouterr() == ('', '')


class TestPrepare:
    def test_data_is_checked(self):
        config = without_data(model_from(None), train_dataloader=missing_data(), data_help='Draw it.')
        with pytest.raises(FileNotFoundError, match=r'train_dataloader: .*nowhere.json.*\nDraw it.$'):
            prepare(config, ('train', 'val'))
        assert prepare(config, ('test',)) is None

    @pytest.mark.parametrize(
        ('roi_head', 'metric', 'message'),
        [
            (
                dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=2)),
                'segm',
                'mask_head.num_classes=2, but',
            ),
            (dict(bbox_head=dict(num_classes=80)), 'segm', 'evaluates masks, but model.roi_head has no mask_head'),
        ],
    )
    def test_heads_are_checked_before_data_are_read(self, roi_head, metric, message):
        evaluator = dict(type='CocoMetric', metric=metric)
        config = without_data(dict(roi_head=roi_head), test_dataloader=missing_data(), test_evaluator=evaluator)
        with pytest.raises(ValueError, match=message):
            prepare(config, ('test',))

    @pytest.mark.parametrize('rank', ['0', '1'])
    def test_each_process_completes_annotations(self, rank, monkeypatch):
        monkeypatch.setenv('RANK', rank)
        prepare(without_data(), ('test',))
        assert CocoDataset.COCOAPI is coco_metric.COCO is CompletedCOCO

    @pytest.mark.usefixtures('no_torchvision')
    @pytest.mark.parametrize('config', [without_data(train_dataloader=missing_data()), without_data()])
    def test_the_first_process_checks(self, config, monkeypatch):
        monkeypatch.setenv('RANK', '1')
        assert prepare(config, ('train', 'val')) is None
        monkeypatch.setenv('RANK', '0')
        with pytest.raises((FileNotFoundError, ImportError)):
            prepare(config, ('train', 'val'))

    @pytest.mark.usefixtures('no_torchvision')
    @pytest.mark.parametrize('options', [{}, dict(load_from='epoch_1.pth'), dict(resume=True)], ids=str)
    def test_initial_weights_need_torchvision(self, options):
        """MMEngine reads them even where a checkpoint replaces them."""
        with pytest.raises(ImportError, match=(
            r'^the initial weights torchvision://resnet50 need torchvision, which does not import here \(.*None.*\)\. '
            r'Install the torchvision .*--cfg-options model.backbone.init_cfg.checkpoint=FILE, .*'
            r'--cfg-options model.backbone.init_cfg=None$'
        )):  # fmt: skip
            prepare(without_data(**options), ('train', 'val'))

    def test_torchvision_that_does_not_fit(self, tmp_path, monkeypatch):
        (tmp_path / 'torchvision.py').write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError, match=r'\(operator torchvision::nms does not exist\)'):
            prepare(without_data(), ('train',))

    def test_torchvision_that_is_there(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'torchvision', SimpleNamespace())
        assert prepare(without_data(), ('train',)) is None

    @pytest.mark.usefixtures('no_torchvision')
    @pytest.mark.parametrize('model', [
        model_from(None), model_from('resnet50.pth'), model_from('open-mmlab://resnet50'), dict(type='Two'),
        dict(backbone=dict(init_cfg=dict(type='Kaiming'))), dict(backbone=dict(init_cfg=[dict(type='Kaiming')])),
    ], ids=str)  # fmt: skip
    def test_others_need_no_torchvision(self, model):
        assert prepare(without_data(model), ('train', 'val')) is None

    @pytest.mark.usefixtures('no_torchvision')
    def test_evaluation_needs_no_torchvision(self):
        assert prepare(without_data(), ('test',)) is None

    @pytest.mark.usefixtures('no_torchvision')
    @pytest.mark.parametrize('option', ['init_cfg=None', 'init_cfg.checkpoint=resnet50.pth'])
    def test_what_the_message_suggests_helps(self, option, train_tool, root, monkeypatch):
        config = str(root / 'configs' / 'mutual_mask_rcnn_r50.py')
        monkeypatch.setattr(sys, 'argv', ['train.py', config, '--cfg-options', f'model.backbone.{option}'])
        monkeypatch.setenv('LOCAL_RANK', '0')
        config = train_tool.read_config(train_tool.parse_args())
        assert prepare(without_data(config.model), ('train',)) is None
