import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from tiny import tiny_config

import mmmutual
from mmmutual.deploy import stock_config

HEAD = dict(type='SlimBN', widths=(1.0, 0.5), requires_grad=True)


def base(root, name='mutual_mask_rcnn_r50') -> Config:
    return Config.fromfile(root / 'configs' / f'{name}.py')


@pytest.mark.parametrize('name', ['mutual_mask_rcnn_r50', 'mutual_faster_rcnn_r50', 'us_net_mask_rcnn_r50'])
@pytest.mark.parametrize(('width', 'base_channels'), [(1.0, 64), (0.75, 48), (0.5, 32), (0.25, 16), (0.501, 32)])
def test_narrow_stock_detector(name, width, base_channels, root):
    stock = stock_config(base(root, name), width)
    backbone, neck = stock.model.backbone, stock.model.neck
    assert (backbone.type, backbone.base_channels, backbone.init_cfg) == ('ResNet', base_channels, None)
    assert backbone.norm_cfg == dict(type='SyncBN', requires_grad=True)
    assert (neck.type, neck.in_channels) == ('FPN', [base_channels * 4 * 2**i for i in range(4)])
    assert [dict(loop, _scope_=None) for loop in (stock.test_cfg, stock.val_cfg)] == [
        dict(type=kind, _scope_=None) for kind in ('TestLoop', 'ValLoop')
    ]
    text = stock.pretty_text
    assert not any(word in text for word in ('mmmutual', 'Slim', 'Subnet', 'Mutual', 'widths', '_base_', 'train_pipe'))
    MODELS.build(stock.model)


def test_the_scale_is_in_the_pipelines(root):
    source = base(root)
    stock = stock_config(source, 0.5, 0.6)
    for loader in (stock.test_dataloader, stock.val_dataloader):
        assert [step.scale for step in loader.dataset.pipeline if step.type == 'Resize'] == [(600, 360)]
    assert stock.test_pipeline == stock.test_dataloader.dataset.pipeline
    assert source.test_pipeline[1].scale == (1000, 600)
    assert source.model.backbone.type == 'SlimmableResNet'


@pytest.mark.parametrize(
    ('width', 'nearest'),
    [
        (0.7, '0.625 and 0.75'),
        (0.95, '0.875 and 1'),
        (0.3, '0.25 and 0.375'),
        (0.05, '0.125'),
        (0.13, '0.125 and 0.25'),
    ],
)
def test_a_width_that_no_stock_resnet_has(width, nearest, root):
    with pytest.raises(ValueError, match=rf'width {width:g} has no stock ResNet.* that can be exported are {nearest};'):
        stock_config(base(root), width)


def test_a_deep_stem_and_group_norm_narrow_too(root):
    config = base(root)
    config.model.backbone.update(deep_stem=True, stem_channels=64, norm_cfg=dict(type='GN', num_groups=8))
    backbone = stock_config(config, 0.5).model.backbone
    assert (backbone.stem_channels, backbone.norm_cfg.type, backbone.norm_cfg.num_groups) == (32, 'GN', 4)
    with pytest.raises(ValueError, match=r'exported are 0\.25'):  # half of the stem has 4 channels, which round to 8
        stock_config(config, 0.125)
    config.model.backbone.norm_cfg.num_groups = 2
    with pytest.raises(ValueError, match=r'exported are 0\.5 and 1'):
        stock_config(config, 0.75)


def test_slimmable_layers_elsewhere_become_stock(root):
    config = base(root)
    config.model.roi_head.bbox_head = dict(
        config.model.roi_head.bbox_head, type='Shared4Conv1FCBBoxHead', norm_cfg=HEAD, conv_cfg=dict(type='SlimConv2d')
    )
    config.model.neck.update(norm_cfg=dict(type='BN'), widths=(1.0, 0.5))
    config.log_processor = dict(type='SubnetLogProcessor', window_size=7)
    config.custom_imports = dict(imports=['mmmutual', 'mmdet.engine'], allow_failed_imports=False)
    stock = stock_config(config, 0.5)
    assert stock.model.roi_head.bbox_head.norm_cfg == dict(type='BN', requires_grad=True)
    assert stock.model.roi_head.bbox_head.conv_cfg == dict(type='Conv2d')
    assert stock.model.neck.norm_cfg == dict(type='BN') and 'widths' not in stock.model.neck
    assert stock.log_processor == dict(type='LogProcessor', window_size=7)
    assert stock.custom_imports.imports == ['mmdet.engine']
    MODELS.build(stock.model)


def test_a_part_without_stock_counterpart_is_named(root):
    config = base(root)
    config.default_hooks.timer = dict(type='MutualLearningHook', widths=(1.0, 0.5))
    with pytest.raises(
        ValueError, match=r'default_hooks\.timer is a MutualLearningHook, which has no stock counterpart'
    ):
        stock_config(config, 0.5)


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (dict(width=1.5), ValueError, 'width must be above 0 and at most 1'),
        (dict(width='wide'), TypeError, 'width must be a number'),
        (dict(width=0.5, scale=0), ValueError, 'scale must be above 0 and at most 1'),
    ],
)
def test_wrong_arguments(options, error, text, root):
    with pytest.raises(error, match=text):
        stock_config(base(root), **options)


def test_no_test_data(root):
    config = base(root)
    config.test_dataloader = None
    with pytest.raises(ValueError, match='the config has no test_dataloader'):
        stock_config(config, 0.5)


def test_stock_and_slimmable_have_as_many_channels(tiny_data, tmp_path):
    """The channels of a width are counted, not only derived: each level of a real forward pass."""
    config = tiny_config(tiny_data, tmp_path)
    slim, image = MODELS.build(config.model).backbone, torch.rand(2, 3, 64, 64)
    slim.train()
    for width in (0.75, 0.5, 0.25):
        stock = MODELS.build(stock_config(config, width).model)
        with mmmutual.use_width(slim, width):
            assert [level.shape for level in slim(image)] == [level.shape for level in stock.backbone(image)]
