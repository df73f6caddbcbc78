"""A stock config becomes elastic: mutual, from a checkpoint, with ordered channels and a short schedule."""

import pytest
from mmengine.config import Config

from mmmutual.config import load_config, make_elastic, without_initial_weights
from mmmutual.slimming import IMPORTANCES
from tests.support.tiny import ROOT

SHAPES = ROOT / 'configs' / 'stock_mask_rcnn_r18_shapes.py'


@pytest.fixture(scope='module')
def shapes() -> Config:
    return load_config(SHAPES)


def test_the_shapes_config(shapes):
    elastic, plan = make_elastic(shapes, 'stock.pth', 250, widths=(1.0, 0.5), scales=(1.0, 0.75), importance='l2')
    assert elastic.model.type == 'SlimmableDetector' and elastic.model.widths == (1.0, 0.5)
    assert (elastic.load_from, elastic.resume) == ('stock.pth', False)
    assert elastic.custom_hooks[0] == dict(type='ChannelOrderHook', importance='l2')
    assert [hook.type for hook in elastic.custom_hooks[1:]] == [
        'IterationSeedHook', 'MutualLearningHook', 'BNCalibrationHook'
    ]  # fmt: skip
    assert elastic.train_cfg.max_epochs == 1 and elastic.optim_wrapper.optimizer.lr == 2e-3
    assert elastic.optim_wrapper.clip_grad == dict(max_norm=10)
    assert elastic.default_hooks.checkpoint.type == 'AtomicCheckpointHook'
    assert elastic.test_cfg == dict(type='SubnetTestLoop', num_widths=4, scales=(1.0, 0.75))
    assert 0.2 < plan.share < 0.8


def test_the_whole_detector_in_its_order(shapes):
    elastic, _ = make_elastic(shapes, 'a.pth', 250, epochs=0, scope='detector', importance=None)
    assert elastic.model.scope == 'detector' and elastic.train_cfg.max_epochs == 0
    assert not any(hook.type == 'ChannelOrderHook' for hook in elastic.custom_hooks)


def test_initial_weights_are_not_read():
    init = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    model = dict(backbone=dict(init_cfg=init), neck=dict(init_cfg=dict(type='Xavier')), pretrained='old')
    config = Config(dict(model=model))
    assert without_initial_weights(config).model == dict(
        backbone=dict(init_cfg=None), neck=dict(init_cfg=dict(type='Xavier')), pretrained=None
    )
    assert config.model.backbone.init_cfg == init


@pytest.mark.parametrize('name', ['mutual_mask_rcnn_r18_shapes.py', 'mutual_faster_rcnn_r50.py'])
def test_a_mutual_config_is_refused(name):
    with pytest.raises(
        ValueError,
        match='config must be a stock config, but it is mutual already, since it has Slimmable.*: pass the stock '
        'config, or train the mutual one with tools/train.py and --cfg-options load_from=CHECKPOINT$',
    ):
        make_elastic(load_config(ROOT / 'configs' / name), 'a.pth', 250)


def test_a_config_that_only_has_the_hook_is_refused(shapes):
    config = Config({**shapes.to_dict(), 'custom_hooks': [dict(type='MutualLearningHook')]})
    with pytest.raises(ValueError, match='since it has MutualLearningHook'):
        make_elastic(config, 'a.pth', 250)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(epochs=-1), ValueError, 'epochs must be at least 0, but got -1'),
        (dict(epochs=1.5), TypeError, 'epochs must be a whole number, but got 1.5'),
        (dict(importance='taylor'), ValueError, f"one of {sorted(IMPORTANCES.module_dict)}, but got 'taylor'"),
        (
            dict(widths=(1.0, 2.0)),
            ValueError,
            'each of widths must be above 0 and at most 1, for example 0.5, but got 2.0',
        ),
    ],
    ids=str,
)
def test_wrong_arguments(options, error, message, shapes):
    with pytest.raises(error) as caught:
        make_elastic(shapes, 'a.pth', 250, **options)
    assert message in str(caught.value)


def test_a_detector_that_cannot_be_made_mutual_says_why(shapes):
    config = Config({**shapes.to_dict(), 'model': dict(type='MaskRCNN', backbone=dict(type='Nothing'))})
    with pytest.raises(ValueError, match='MaskRCNN with the backbone Nothing cannot be made mutual'):
        make_elastic(config, 'a.pth', 250)
