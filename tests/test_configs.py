"""Every file under configs/ loads, builds and runs a step of shapes."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping

import mmdet
import pytest
import torch
from mmdet.models import ResNet
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import HOOKS

import mmmutual
from mmmutual.config_tree import rebuilt
from mmmutual.deploy import export_subnet
from mmmutual.evaluation import count_multiply_adds
from mmmutual.layers import SlimBatchNorm2d, evaluated_widths
from tests.support.tiny import find_hook

ROOT = os.path.dirname(os.path.dirname(__file__))
NAMES = sorted(name for name in os.listdir(f'{ROOT}/configs') if name.endswith('.py') and '_whole' not in name)
COCO = [name for name in NAMES if not {'shapes', 'transfer'} & set(name[:-3].split('_'))]
R50 = [name for name in COCO if 'r50' in name]
OTHERS = {  # stock configs of mmdet
    'mutual_mask_rcnn_swin_t.py': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'mutual_rtmdet_s.py': 'rtmdet/rtmdet_s_8xb32-300e_coco.py',
}


def without_scope(node: object) -> object:
    """A part of a config without the marks of the package that it is inherited from."""
    return rebuilt(
        node, lambda each: {k: v for k, v in each.items() if k != '_scope_'} if isinstance(each, Mapping) else each
    )


def load(name: str) -> Config:
    config = Config.fromfile(f'{ROOT}/configs/{name}')
    config.model.backbone.init_cfg = None
    return config


@pytest.mark.parametrize('name', ['mask_rcnn_r50', 'faster_rcnn_r50', 'mask_rcnn_r18_shapes'])
@pytest.mark.integration
def test_former_names_are_the_same_configs(name):
    former, config = (Config.fromfile(f'{ROOT}/configs/mutual_{name}_{end}.py') for end in ('whole', 'detector'))
    assert former.to_dict() == config.to_dict()


def test_the_promised_configs_are_there():
    promised = {
        f'{kind}_{detector}_rcnn_r50.py'
        for kind in ('mutual', 'us_net', 'independent')
        for detector in ('mask', 'faster')
    }
    assert promised | {'mutual_mask_rcnn_r18_shapes.py', *OTHERS} <= set(NAMES)
    assert set(COCO) == {*R50, *OTHERS}


@pytest.mark.integration
@pytest.mark.parametrize('name', NAMES)
def test_builds_and_predicts(name):
    config = load(name)
    model = MODELS.build(config.model).eval()
    for hook in config.get('custom_hooks', []):
        HOOKS.build(hook)
    if not name.startswith(('independent', 'stock')):
        assert mmmutual.width_grid(model) == config.widths
    with torch.no_grad():
        assert len(model.test_step(demo_mm_inputs(1, [[3, 96, 96]]))) == 1
    assert count_multiply_adds(model, (96, 96))['total'] > 0


@pytest.mark.parametrize('name', COCO)
def test_trainings_of_several_widths_order_stock_weights(name):
    orders = [hook.type == 'ChannelOrderHook' for hook in load(name).custom_hooks]
    assert orders[0] is not name.startswith('independent')
    assert not any(orders[1:])


@pytest.mark.parametrize('name', R50)
@pytest.mark.integration
def test_the_coco_recipe(name):
    """R-50-FPN, 2x schedule, 8 x 2 images, 1000 x 600 pixels, nothing frozen; all six share it."""
    config = load(name)
    assert (config.model.backbone.depth, config.model.backbone.frozen_stages) == (50, -1)
    assert not config.model.backbone.norm_eval
    assert config.model.backbone.norm_cfg.type == 'SyncBN'
    assert config.train_cfg.max_epochs == 24
    assert config.param_scheduler[1].milestones == [16, 22]
    assert config.train_dataloader.batch_size * 8 == config.auto_scale_lr.base_batch_size == 16
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        pipeline = loader.dataset.pipeline
        assert [t.scale for t in pipeline if t.type == 'Resize'] == [(1000, 600)]
        assert [t.get('with_mask', False) for t in pipeline if t.type == 'LoadAnnotations'] == ['mask_rcnn' in name]
    metrics = config.val_evaluator.metric
    assert metrics == (['bbox', 'segm'] if 'mask_rcnn' in name else 'bbox')


@pytest.mark.parametrize('name', OTHERS)
@pytest.mark.integration
def test_other_detectors_keep_the_recipe_of_mmdet(name):
    config, stock = load(name), Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/{OTHERS[name]}')
    assert config.optim_wrapper.pop('clip_grad').max_norm == 35
    config.train_dataloader.persistent_workers = True
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'test_dataloader'):
        assert without_scope(config[key]) == without_scope(stock[key])
    hooks = [hook.type for hook in stock.get('custom_hooks', [])]
    assert [hook.type for hook in config.custom_hooks][1 : 1 + len(hooks)] == hooks
    assert config.data_help == load('mutual_mask_rcnn_r50.py').data_help
    assert config.auto_scale_lr.base_batch_size == 8 * config.train_dataloader.batch_size


FOUR = (1.0, 0.75, 0.5, 0.25)
GRIDS = {  # trained widths of the networks
    **dict.fromkeys(('r50', 'swin', 'rtmdet'), tuple(round(1.0 - 0.05 * step, 2) for step in range(16))),
    'r18': FOUR,
    'mobilenet_v2': tuple(round(1.0 - 0.025 * step, 3) for step in range(13)),
    'pretrain': tuple(round(1.0 - 0.025 * step, 3) for step in range(31)),
    'boosting': (1.0, 0.975, 0.95, 0.925, 0.9),
}
PRETRAIN = sorted(f'pretrain/{name}' for name in os.listdir(f'{ROOT}/configs/pretrain') if name.endswith('.py'))


@pytest.mark.parametrize(
    'name', [name for name in NAMES + PRETRAIN if not {'independent', 'stock'} & set(re.split('[_/]', name))]
)
@pytest.mark.integration
def test_widths_and_scales(name):
    """Those that are trained and evaluated, all derived from one list of widths and one of scales."""
    config = Config.fromfile(f'{ROOT}/configs/{name}', import_custom_modules=False)
    kinds = ('boosting', 'r18', 'resnet18', 'mobilenet_v2', 'pretrain', 'r50', 'swin', 'rtmdet')
    grid = GRIDS[next(kind for kind in kinds if kind in name).replace('resnet18', 'r18')]
    scales = (1.0, 0.75, 0.5) if '18' in name else (1.0, 0.8, 0.6, 0.4)
    if 'pretrain' in name and '18' not in name:
        scales = (1.0, 192 / 224, 160 / 224, 128 / 224)
    assert {part.widths for part in (config.model, config.model.backbone) if 'widths' in part} == {grid}
    hook = find_hook(config)
    assert 'widths' not in hook and hook.num_subnets == (3 if 'shapes' in name else 4)
    assert hook.scales == ((1.0,) if 'us_net' in name else scales)
    evaluated = (1.0,) if 'boosting' in name else (1.0, 0.9, 0.8, 0.7) if 'mobilenet_v2' in name else FOUR
    model = SlimBatchNorm2d(8, widths=grid)
    for loop in (config.val_cfg, config.test_cfg):
        assert evaluated_widths(model, loop.get('widths'), loop.get('num_widths')) == evaluated
    assert config.test_cfg.scales == ((1.0,) if 'boosting' in name else scales)


@pytest.mark.parametrize('detector', ['mask', 'faster'])
@pytest.mark.integration
def test_mutual_and_us_net_differ_in_the_scales_alone(detector):
    mutual, us_net = (load(f'{kind}_{detector}_rcnn_r50.py') for kind in ('mutual', 'us_net'))
    hooks = [find_hook(config) for config in (mutual, us_net)]
    assert [tuple(round(1000 * 0.6 * s) for s in hook.scales) for hook in hooks] == [(600, 480, 360, 240), (600,)]
    hooks[1].scales = hooks[0].scales
    assert mutual.to_dict() == us_net.to_dict()


@pytest.mark.parametrize('detector', ['mask', 'faster'])
@pytest.mark.integration
def test_boosting_differs_in_the_widths_alone_and_evaluates_the_full_network(detector):
    boosting, mutual = (load(f'{kind}_{detector}_rcnn_r50.py') for kind in ('boosting', 'mutual'))
    assert find_hook(boosting, 'BNCalibrationHook').pop('widths') == (1.0,)
    for config in (boosting, mutual):
        config.model.backbone.widths = config.widths = None
        config.val_cfg.num_widths = config.test_cfg.num_widths = config.test_cfg.scales = None
    assert boosting.to_dict() == mutual.to_dict()


@pytest.mark.integration
def test_the_boosted_network_is_exported_as_a_stock_one(tmp_path):
    """Its narrow widths need no statistics."""
    config = load('boosting_mask_rcnn_r50.py')
    model = MODELS.build(config.model)
    exported = export_subnet(config, model, width=1.0, scale=1.0, out_dir=tmp_path)
    weights = torch.load(exported.checkpoint_path)['state_dict']
    stock_config = Config.fromfile(exported.config_path)
    stock = MODELS.build(stock_config.model).state_dict()
    assert stock_config.test_cfg.type == 'TestLoop' and 'num_widths' not in stock_config.test_cfg
    assert type(exported.detector.backbone) is ResNet
    assert weights.keys() == stock.keys() and exported.difference == 0
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights.items())


@pytest.mark.parametrize('width', [1.0, 0.5])
@pytest.mark.integration
def test_independent_width_from_the_environment(width, monkeypatch):
    monkeypatch.setenv('WIDTH', str(width))
    config = Config.fromfile(f'{ROOT}/configs/independent_mask_rcnn_r50.py')
    assert config.work_dir.endswith(f'_w{width:g}')
    assert (config.model.backbone.init_cfg is None) == (width < 1)
    config.model.backbone.init_cfg = None
    independent = MODELS.build(config.model)
    mutual = MODELS.build(load('mutual_mask_rcnn_r50.py').model)
    mmmutual.set_width(mutual, width)
    assert count_multiply_adds(independent, (600, 1000)) == count_multiply_adds(mutual, (600, 1000))


@pytest.mark.integration
def test_the_readme_example_runs():
    """The five lines of the README, and the output printed there."""
    text = open(f'{ROOT}/README.md').read()
    code = text.split('```python\n')[1].split('```')[0]
    expected = text.split('```text\n')[1].split('```')[0].splitlines()
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if 'OneDL' not in line]
    assert expected and printed == expected
