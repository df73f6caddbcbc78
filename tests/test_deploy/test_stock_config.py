import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from mmmutual.deploy.stock_channels import narrow_backbone, narrow_configs
from mmmutual.deploy.stock_config import stock_settings, with_model
from mmmutual.deploy.stock_types import stock_types

HEAD = dict(type='SlimBN', widths=(1.0, 0.5), requires_grad=True)


def base(root, name='mutual_mask_rcnn_r50') -> Config:
    return Config.fromfile(root / 'configs' / f'{name}.py')


@pytest.mark.integration
@pytest.mark.parametrize('name', ['mutual_mask_rcnn_r50', 'mutual_faster_rcnn_r50', 'us_net_mask_rcnn_r50'])
@pytest.mark.parametrize(('width', 'base_channels'), [(1.0, 64), (0.75, 48), (0.5, 32), (0.25, 16), (0.501, 32)])
def test_a_narrow_stock_detector_is_the_first_candidate(name, width, base_channels, root):
    model = next(narrow_configs(stock_types(base(root, name).model), width))
    backbone, neck = model['backbone'], model['neck']
    assert (backbone['type'], backbone['base_channels'], backbone['init_cfg']) == ('ResNet', base_channels, None)
    assert backbone['norm_cfg'] == dict(type='SyncBN', requires_grad=True)
    assert (neck['type'], neck['in_channels']) == ('FPN', [base_channels * 4 * 2**i for i in range(4)])
    assert not any(word in str(model) for word in ('Slim', 'widths'))
    MODELS.build(Config(dict(model=model)).model)


def test_settings_are_those_of_a_single_network(root):
    stock = stock_settings(base(root))
    assert [dict(loop, _scope_=None) for loop in (stock.test_cfg, stock.val_cfg)] == [
        dict(type=kind, _scope_=None) for kind in ('TestLoop', 'ValLoop')
    ]
    text = stock.pretty_text
    assert not any(word in text for word in ('mmmutual', 'Slim', 'Subnet', 'Mutual', 'widths', '_base_', 'train_pipe'))


def test_the_scale_is_in_the_pipelines(root):
    source = base(root)
    stock = stock_settings(source, 0.6)
    for loader in (stock.test_dataloader, stock.val_dataloader):
        assert [step.scale for step in loader.dataset.pipeline if step.type == 'Resize'] == [(600, 360)]
    assert stock.test_pipeline == stock.test_dataloader.dataset.pipeline
    assert source.test_pipeline[1].scale == (1000, 600)
    assert source.model.backbone.type == 'SlimmableResNet'


def test_channels_of_backbones():
    def narrow(width, **config):
        return narrow_backbone(config, width)

    norm = dict(type='GN', num_groups=8)
    deep = narrow(0.5, type='ResNet', depth=50, deep_stem=True, stem_channels=64, norm_cfg=norm)
    assert (deep['stem_channels'], deep['base_channels'], deep['norm_cfg']['num_groups']) == (32, 32, 4)
    resnext = narrow(0.5, type='ResNeXt', depth=50, groups=32, base_width=4)
    assert (resnext['base_channels'], resnext['groups'], resnext['base_width']) == (32, 16, 4)
    res2net = narrow(0.5, type='mmdet.Res2Net', depth=101, base_width=26, scales=4)
    assert (res2net['base_channels'], res2net['base_width']) == (32, 16)
    regnet = narrow(0.5, type='RegNet', arch='regnetx_4.0gf')
    assert (regnet['arch']['w0'], regnet['arch']['group_w'], regnet['stem_channels']) == (48, 40, 16)
    assert narrow(0.5, type='CSPDarknet', widen_factor=0.5)['widen_factor'] == 0.25
    assert narrow(0.5, type='MobileNetV2')['widen_factor'] == 0.5
    swin = narrow(2 / 3, type='SwinTransformer')
    assert (swin['embed_dims'], swin['num_heads']) == (64, [2, 4, 8, 16])
    assert narrow(0.5, type='SwinTransformer')['num_heads'] == [2, 3, 6, 12]  # of 32 channels, not 48 in 2 heads
    for kind in ('PyramidVisionTransformer', 'PyramidVisionTransformerV2'):
        assert narrow(0.5, type=kind)['num_heads'] == [1, 1, 3, 4]
    assert narrow(0.5, type='Darknet', depth=53) == dict(type='Darknet', depth=53)


def test_slimmable_layers_elsewhere_become_stock(root):
    config = base(root)
    config.model.roi_head.bbox_head = dict(
        config.model.roi_head.bbox_head, type='Shared4Conv1FCBBoxHead', norm_cfg=HEAD, conv_cfg=dict(type='SlimConv2d')
    )
    config.model.neck.update(norm_cfg=dict(type='BN'), widths=(1.0, 0.5))
    config.log_processor = dict(type='SubnetLogProcessor', window_size=7)
    config.custom_imports = dict(imports=['mmmutual', 'mmdet.engine'], allow_failed_imports=False)
    settings, model = stock_settings(config), stock_types(config.to_dict()['model'])
    assert model['roi_head']['bbox_head']['norm_cfg'] == dict(type='BN', requires_grad=True)
    assert model['roi_head']['bbox_head']['conv_cfg'] == dict(type='Conv2d')
    assert model['neck']['norm_cfg'] == dict(type='BN') and 'widths' not in model['neck']
    assert settings.log_processor == dict(type='LogProcessor', window_size=7)
    assert settings.custom_imports.imports == ['mmdet.engine']
    assert with_model(settings, model, stock=True).custom_imports.imports == ['mmdet.engine']
    imports = with_model(settings, model, stock=False).custom_imports
    assert imports == dict(imports=['mmmutual.deploy', 'mmdet.engine'], allow_failed_imports=False)


@pytest.mark.parametrize(
    ('name', 'stock'),
    [
        ('SlimmableSwin', 'SwinTransformer'),
        ('SlimmablePVT', 'PyramidVisionTransformer'),
        ('SlimmablePVTv2', 'PyramidVisionTransformerV2'),
    ],
)
def test_short_names_of_backbones(name, stock):
    for own in (name, f'Slimmable{stock}', f'mmdet.{name}'):
        assert stock_types(dict(type=own, widths=(1.0, 0.5), embed_dims=64)) == dict(type=stock, embed_dims=64)


def test_a_part_without_stock_counterpart_is_named(root):
    config = base(root)
    config.default_hooks.timer = dict(type='MutualLearningHook', widths=(1.0, 0.5))
    with pytest.raises(
        ValueError, match=r'default_hooks\.timer is a MutualLearningHook, which has no stock counterpart\. Leave it out'
    ):
        stock_settings(config)


@pytest.mark.parametrize(
    ('scale', 'error', 'text'),
    [(0, ValueError, 'scale must be above 0 and at most 1'), ('small', TypeError, 'scale must be a number')],
)
def test_wrong_scale(scale, error, text, root):
    with pytest.raises(error, match=text):
        stock_settings(base(root), scale)


def test_no_test_data(root):
    config = base(root)
    config.test_dataloader = None
    with pytest.raises(ValueError, match='the config has no test_dataloader'):
        stock_settings(config)
