"""Configs made mutual are what a person would write."""

import copy
import re

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

import mmmutual
from mmmutual.config import format_changes, load_config, make_mutual, make_mutual_with_plan, write_mutual
from mmmutual.slimming import format_share
from tests.support.tiny import find_hook

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
WIDTHS, SCALES = (1.0, 0.5, 0.25), (1.0, 0.6)


@pytest.fixture(scope='module')
def retinanet() -> Config:
    return load_config(RETINANET)


@pytest.fixture(scope='module')
def mutual(retinanet) -> Config:
    return make_mutual(retinanet, WIDTHS, SCALES)


@pytest.mark.integration
def test_the_page_in_the_docs_shows_what_the_tool_makes(root, tmp_path):
    """The config written by hand in docs/make_mutual.md and the tool's give the same settings."""
    page = (root / 'docs' / 'make_mutual.md').read_text()
    by_hand, by_tool = re.findall(r'```py\n(.*?)```', page, re.DOTALL)[:2]
    (tmp_path / 'by_hand.py').write_text(by_hand)
    stock = load_config(RETINANET)
    made, plan = make_mutual_with_plan(stock)
    write_mutual(RETINANET, stock, made, tmp_path / 'by_tool.py')
    assert (tmp_path / 'by_tool.py').read_text() == by_tool
    hand, tool = (Config.fromfile(tmp_path / f'{name}.py').to_dict() for name in ('by_hand', 'by_tool'))
    hand.pop('scales')
    assert hand == tool == made.to_dict()
    printed = f'{format_changes(stock, made)}\n{format_share(plan)}'
    assert printed == re.search(r'```text\n(.*?)\n```', page, re.DOTALL)[1]


def test_the_page_in_the_docs_shows_the_table_of_a_plan(root):
    """With deformable convolutions, which keep all of their channels."""
    page = (root / 'docs' / 'make_mutual.md').read_text()
    name = re.search(r'make_mutual_config.py (\S+) --plan\n', page)[1]
    plan = make_mutual_with_plan(load_config(name))[1]
    assert f'{plan}\n{format_share(plan)}' == re.findall(r'```text\n(.*?)\n```', page, re.DOTALL)[1]


def test_the_stock_config_does_not_change(retinanet, mutual):
    assert retinanet.model.backbone.type == 'ResNet'
    assert retinanet.val_cfg.type == 'ValLoop'
    assert 'custom_hooks' not in retinanet
    assert {**mutual.train_dataloader, 'persistent_workers': True} == retinanet.train_dataloader
    assert mutual.val_dataloader == retinanet.val_dataloader
    assert mutual.param_scheduler == retinanet.param_scheduler


def test_the_result_builds_and_switches(mutual):
    mutual = copy.deepcopy(mutual)
    mutual.model.backbone.init_cfg = None
    model = MODELS.build(mutual.model)
    mmmutual.set_width(model, 0.25)
    assert [level.shape[1] for level in model.backbone(torch.rand(1, 3, 64, 64))] == [64, 128, 256, 512]


def test_the_widths_are_in_one_place(retinanet, mutual):
    assert mutual.model.widths == WIDTHS
    assert find_hook(mutual) == dict(type='MutualLearningHook', scales=SCALES)
    assert mutual.val_cfg == {**retinanet.val_cfg, 'type': 'SubnetValLoop', 'num_widths': 4}
    assert mutual.test_cfg == {**retinanet.test_cfg, 'type': 'SubnetTestLoop', 'num_widths': 4, 'scales': SCALES}


def test_the_detector_is_wrapped_and_stays_stock():
    stock = load_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
    stock.model.neck.norm_cfg = stock.model.backbone.norm_cfg = dict(type='BN')
    stock.model.backbone.init_cfg = None
    made = make_mutual(stock, WIDTHS, SCALES)
    assert list(made.model)[:4] == ['type', 'detector', 'widths', 'data_preprocessor']
    assert made.model.type == 'SlimmableDetector' and made.model.detector == 'RTMDet'
    assert {**made.model, 'type': 'RTMDet'}.keys() - {'detector', 'widths'} == stock.model.keys()
    model = MODELS.build(made.model)
    assert type(model).__name__ == 'RTMDet'
    assert set(MODELS.build(stock.model).state_dict()) <= set(model.state_dict())


def test_the_scope_is_one_more_setting(retinanet, mutual):
    detector, rest = make_mutual(retinanet, WIDTHS, SCALES, scope='detector').to_dict(), mutual.to_dict()
    assert {key: detector['model'][key] for key in ('type', 'detector', 'widths', 'scope')} == dict(
        type='SlimmableDetector', detector='RetinaNet', widths=WIDTHS, scope='detector'
    )
    assert detector['model'].pop('scope') and detector == rest
    assert (rest['model']['backbone']['type'], rest['model']['neck']['type']) == ('ResNet', 'FPN')
    with pytest.raises(ValueError, match="scope must be 'backbone', as in the paper, or 'detector'.* but got 'head'"):
        make_mutual(retinanet, WIDTHS, SCALES, scope='head')


@pytest.mark.integration
def test_the_plan_comes_with_the_config(retinanet, mutual):
    made, plan = make_mutual_with_plan(retinanet, WIDTHS, SCALES)
    assert made.to_dict() == mutual.to_dict()
    assert 0.2 < plan.share < 0.5 and 'backbone' in str(plan)
    assert make_mutual_with_plan(retinanet, WIDTHS, SCALES, scope='detector')[1].share > 0.95


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (RuntimeError('size a\nsize b'), 'RuntimeError: size a$'),
        (ValueError('ResNet cannot slim'), 'ResNet cannot slim$'),
    ],
    ids=repr,
)
def test_what_the_plan_fails_with_is_one_sentence(error, reason, retinanet, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr('mmmutual.config.mutual_config.plan_slimming', fail)
    with pytest.raises(ValueError, match=f'^RetinaNet with the backbone ResNet cannot be made mutual: {reason}'):
        make_mutual(retinanet, WIDTHS, SCALES)


@pytest.mark.parametrize(
    'name', ['res2net/faster-rcnn_res2net-101_fpn_2x_coco', 'tridentnet/tridentnet_r50-caffe_1x_coco']
)
@pytest.mark.integration
def test_frozen_parts_are_thawed(name):
    stock = load_config(f'mmdet::{name}.py')
    stock.model.backbone.init_cfg = None
    backbone = make_mutual(stock, WIDTHS, SCALES).model.backbone
    assert (backbone.norm_eval, backbone.frozen_stages) == (False, -1)
    assert stock.model.backbone.norm_eval


@pytest.mark.integration
def test_the_backbones_in_a_recursive_neck_are_thawed():
    stock = load_config('mmdet::detectors/cascade-rcnn_r50-rfp_1x_coco.py')
    stock.model.backbone.init_cfg = None
    backbone = make_mutual(stock, WIDTHS, SCALES).model.neck.rfp_backbone
    assert (backbone.norm_eval, backbone.frozen_stages) == (False, -1)


def test_a_wrapper_of_another_library_has_no_backbone():
    config = Config(dict(model=dict(type='Detectron2Wrapper', detector=dict(backbone=dict(name='build_resnet')))))
    with pytest.raises(ValueError, match='^Detectron2Wrapper has no backbone at its top level, .*choose a config with'):
        make_mutual(config, WIDTHS, SCALES)


def test_thawed_norms_can_be_trained():
    """NAS-FCOS has frozen norms with eps=0, which PyTorch does not train."""
    stock = load_config(RETINANET)
    stock.model.backbone.update(depth=18, init_cfg=None)
    stock.model.backbone.norm_cfg.eps = 0
    stock.model.neck.in_channels = [64, 128, 256, 512]
    made = make_mutual(stock, WIDTHS, SCALES)
    assert (made.model.backbone.norm_cfg.eps, stock.model.backbone.norm_cfg.eps) == (1e-5, 0)


def test_a_config_that_mmengine_cannot_inherit_from_is_written_whole(tmp_path):
    name = 'mmdet::gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py'
    stock = load_config(name)
    made = make_mutual(stock, WIDTHS, SCALES)
    write_mutual(name, stock, made, tmp_path / 'whole.py')
    assert Config.fromfile(tmp_path / 'whole.py').to_dict() == made.to_dict()


def test_hooks_are_added_to_those_there_are(retinanet):
    stock = load_config(RETINANET)
    stock.custom_hooks = [dict(type='NumClassCheckHook')]
    hooks = [hook['type'] for hook in make_mutual(stock, WIDTHS, SCALES).custom_hooks]
    assert hooks == ['NumClassCheckHook', 'IterationSeedHook', 'MutualLearningHook', 'BNCalibrationHook']
    changes = format_changes(stock, make_mutual(stock, WIDTHS, SCALES))
    assert "+ custom_hooks[2]: {'type': 'MutualLearningHook'" in changes and 'NumClassCheckHook' not in changes


def test_own_settings_are_kept():
    stock = load_config(RETINANET)
    stock.optim_wrapper.clip_grad = dict(max_norm=1)
    stock.custom_imports = dict(imports=['json'], allow_failed_imports=True)
    stock.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile')]  # nothing to scale
    made = make_mutual(stock, WIDTHS, SCALES)
    assert made.optim_wrapper.clip_grad == dict(max_norm=1)
    assert made.custom_imports == dict(imports=['json', 'mmmutual'], allow_failed_imports=True)
    assert 'scales' not in made.test_cfg


def test_a_run_of_it_can_be_killed_and_resumed(retinanet, mutual):
    assert mutual.default_hooks.checkpoint == {**retinanet.default_hooks.checkpoint, 'type': 'AtomicCheckpointHook'}
    assert not mutual.train_dataloader.persistent_workers and mutual.val_dataloader.persistent_workers
    stock = load_config(RETINANET)
    stock.custom_hooks = [dict(type='IterationSeedHook')]
    stock.default_hooks.checkpoint.backend_args = dict(backend='petrel')
    made = make_mutual(stock, WIDTHS, SCALES)
    assert [hook.type for hook in made.custom_hooks].count('IterationSeedHook') == 1
    assert made.default_hooks.checkpoint.type == 'CheckpointHook'


@pytest.mark.integration
def test_only_options_that_a_backbone_has_are_set():
    """SSD's VGG takes no frozen_stages; EfficientNet counts its frozen stages from 0."""
    ssd = make_mutual(load_config('mmdet::ssd/ssd300_coco.py'), WIDTHS, SCALES)
    assert 'frozen_stages' not in ssd.model.backbone and ssd.model.detector == 'SingleStageDetector'
    stock = load_config('mmdet::efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py')
    stock.model.backbone.init_cfg = None
    assert make_mutual(stock, WIDTHS, SCALES).model.backbone.frozen_stages == 0


def test_what_cannot_be_built_is_one_sentence(retinanet):
    stock = load_config(RETINANET)
    stock.model.backbone.depth = 51
    message = (
        r'RetinaNet with the backbone ResNet cannot be made mutual, since it cannot be built here \(KeyError: .*51'
    )
    with pytest.raises(ValueError, match=message):
        make_mutual(stock, WIDTHS, SCALES)


def test_changes_are_marked_and_coloured(retinanet, mutual):
    lines = format_changes(retinanet, mutual).splitlines()
    assert '~ model.type: RetinaNet -> SlimmableDetector' in lines
    assert '~ model.backbone.norm_eval: True -> False' in lines
    assert '+ model.widths: (1.0, 0.5, 0.25)' in lines
    assert '\033[32m+ model.widths: (1.0, 0.5, 0.25)\033[0m' in format_changes(retinanet, mutual, color=True)


def test_a_config_by_path_is_written_relative_to_it(root, tmp_path):
    (tmp_path / 'in').mkdir()
    stock_path = tmp_path / 'in' / 'stock.py'
    stock_path.write_text(f'_base_ = {RETINANET!r}\n')
    stock = load_config(str(stock_path))
    write_mutual(str(stock_path), stock, make_mutual(stock, WIDTHS, SCALES), tmp_path / 'out' / 'mutual.py')
    assert (tmp_path / 'out' / 'mutual.py').read_text().startswith("_base_ = '../in/stock.py'\n")
    assert Config.fromfile(tmp_path / 'out' / 'mutual.py').model.widths == WIDTHS


def test_a_dict_may_replace_none(tmp_path):
    (tmp_path / 'stock.py').write_text(
        f'_base_ = {RETINANET!r}\ncustom_imports = None\noptim_wrapper = dict(clip_grad=None)\n'
    )
    stock = load_config(str(tmp_path / 'stock.py'))
    made = make_mutual(stock, WIDTHS, SCALES)
    write_mutual(str(tmp_path / 'stock.py'), stock, made, tmp_path / 'mutual.py')
    assert Config.fromfile(tmp_path / 'mutual.py').to_dict() == made.to_dict()
    assert made.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        (
            'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
            r'several models \(detector\)',
        ),
        ('mmdet::nowhere/nothing.py', 'there is no config mmdet::nowhere/nothing.py'),
    ],
)
def test_what_cannot_be_made_mutual(name, text):
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        make_mutual(load_config(name))


def test_wrong_arguments(retinanet, mutual):
    with pytest.raises(ValueError, match='each of widths must be above 0 and at most 1'):
        make_mutual(retinanet, widths=(2.0, 1.0))
    with pytest.raises(ValueError, match='scales is empty'):
        make_mutual(retinanet, scales=())
    with pytest.raises(ValueError, match='already mutual: it has a MutualLearningHook'):
        make_mutual(mutual)
    with pytest.raises(ValueError, match='has no model'):
        make_mutual(Config(dict(a=1)))


def test_where_a_config_is_not_written(tmp_path):
    """A config that inherits from itself would take the place of the user's."""
    (tmp_path / 'stock.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n")
    before = (tmp_path / 'stock.py').read_text()
    for path, message in ((tmp_path / 'stock.py', 'needs another name'), (tmp_path, 'ends in .py'), ('a.txt', 'a.txt')):
        with pytest.raises(ValueError, match=message):
            write_mutual(str(tmp_path / 'stock.py'), Config(), Config(), path)
    assert (tmp_path / 'stock.py').read_text() == before
