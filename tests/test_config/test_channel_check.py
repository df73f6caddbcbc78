"""The parts of a model match each other, and the images match the model."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmmutual.config import build_model
from mmmutual.config.channel_check import ChannelMismatch, check_colors
from mmmutual.engine import check_model
from mmmutual.layers import use_width
from mmmutual.slimming import input_channels
from tests.support.small_detectors import retina_head
from tests.support.tiny import find_hook


def detector(slim: str = 'Slimmable', **changes) -> Config:
    """RetinaNet R-18, with some settings under dotted names."""
    widths = dict(widths=(1.0, 0.5)) if slim else {}
    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16, 32, 64, 128])
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
        backbone=dict(type=f'{slim}ResNet', depth=18, norm_eval=False, **widths),
        neck=dict(type=f'{slim}FPN', in_channels=[64, 128, 256, 512], out_channels=32, num_outs=5),
        bbox_head=retina_head(num_classes=3, anchor_generator=anchors),
    )
    config = Config(dict(model=model))
    config.merge_from_dict({f'model.{name.replace("__", ".")}': value for name, value in changes.items()})
    return config


def grey(**changes) -> Config:
    one = dict(data_preprocessor__mean=[0.0], data_preprocessor__std=[1.0], backbone__in_channels=1)
    return detector(**{**one, **changes})


@pytest.mark.parametrize('slim', ['Slimmable', ''])
class TestParts:
    def test_that_fit(self, slim):
        config = detector(slim)
        before = config.to_dict()
        build_model(config)
        assert config.to_dict() == before

    @pytest.mark.parametrize('channels', [[128, 256, 512, 1024], [64, 128, 256, 1024], [32, 64, 128, 256]])
    def test_a_neck_of_another_depth(self, slim, channels):
        with pytest.raises(ChannelMismatch, match=(
            rf'the neck \({slim}FPN\) does not match: its layer neck.lateral_convs.\d.conv is built for \d+ channels, but receives '
            r'\d+. The levels of the backbone have \[64, 128, 256, 512\] channels: set in_channels of the neck'
        )):  # fmt: skip
            build_model(detector(slim, neck__in_channels=channels))

    def test_a_head_of_another_neck(self, slim):
        with pytest.raises(
            ChannelMismatch, match=r'the bbox_head \(RetinaHead\) .* is built for 64 channels, but receives 32'
        ):
            build_model(detector(slim, bbox_head__in_channels=64))


def test_all_layers_slimmable_are_compared_at_full_width():
    config = detector('')
    config.model.update(type='SlimmableDetector', detector='RetinaNet', widths=(1.0, 0.5))
    build_model(config)
    config.model.neck.in_channels = [64, 128, 256, 1024]
    with pytest.raises(ChannelMismatch, match='the neck'):
        build_model(config)


def test_what_cannot_be_built_is_one_sentence():
    with pytest.raises(ValueError, match=r'the model of the config cannot be built: KeyError: .*NoSuchHead'):
        build_model(detector(bbox_head__type='NoSuchHead'))
    with pytest.raises(TypeError, match='no_such_option'):
        build_model(detector(backbone__no_such_option=1))


def test_the_first_process_checks(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    assert check_model(detector(neck__in_channels=[1, 1, 1, 1]), ('train',)) is None


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(custom_hooks=[dict(type='MutualLearningHook', widths=(1.0, 0.5), scales=(2.0,))]),
            'scales must be above 0',
        ),
        (dict(custom_hooks=[dict(type='MutualLearningHook', widths=(1.0, 0.6))]), 'width 0.6 has no batch-norm'),
        (dict(custom_hooks=[dict(type='BNCalibrationHook', num_batches=0)]), 'num_batches must be at least 1'),
        (dict(val_cfg=dict(type='SubnetValLoop', widths=(1.0, 1.5))), 'each of widths of val_cfg must be above 0'),
        (dict(val_cfg=dict(type='SubnetValLoop', widths=(1.0,), scales=())), 'scales of val_cfg is empty'),
        (dict(val_cfg=dict(type='SubnetValLoop', num_widths=0)), 'num_widths of val_cfg must be at least 1, but got 0'),
        (dict(custom_hooks=[dict(type='MutualLearningHook', num_subnets=1)]), r'at least 2 for widths \(1.0, 0.5\)'),
    ],
    ids=str,
)
def test_hooks_and_loops_are_checked_before_a_run_writes_anything(settings, message):
    config = detector()
    check_model(config, ('train', 'val'))
    config.update(settings)
    with pytest.raises(ValueError, match=message):
        check_model(config, ('train', 'val'))


class TestBeforeTraining:
    """Faults that a run would meet after its log began: frozen norms, names of modules."""

    def config(self, **options) -> Config:
        config = detector(backbone__norm_eval=True)
        config.custom_hooks = [dict(type='MutualLearningHook', widths=(1.0, 0.5), **options)]
        return config

    def weights(self, widths=(1.0, 0.5)) -> dict:
        """A checkpoint that was calibrated at some widths, of a detector of other classes."""
        model = build_model(detector(bbox_head__num_classes=7))
        for width in widths:
            with use_width(model, width):
                model.train().backbone(torch.rand(2, 3, 64, 64))
        return dict(state_dict=model.state_dict())

    def test_frozen_norms_need_statistics(self):
        message = r'backbone.bn1 is frozen .* no statistics for the widths \[0.5\]'
        with pytest.raises(ValueError, match='backbone.bn1 is frozen'):
            check_model(self.config(), ('train',))
        with pytest.raises(ValueError, match=message):
            check_model(self.config(), ('train',), self.weights(widths=(1.0,)))
        check_model(self.config(), ('train',), self.weights())

    def test_weights_that_are_not_read_here_may_have_them(self):
        config = self.config()
        config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='https://example.org/slimmable.pth')
        check_model(config, ('train',))
        config = self.config()
        config.load_from = 'https://example.org/mutual.pth'
        check_model(config, ('train',))

    def test_what_is_distilled_is_there(self):
        config = self.config(distill=dict(type='PearsonDistillation', module='neck.no_such_layer'))
        with pytest.raises(ValueError, match="distill needs the module 'neck.no_such_layer'"):
            check_model(config, ('train',), self.weights())

    def test_validation_needs_statistics(self):
        """Of widths that nothing trains or calibrates; otherwise the run would end after its first epoch."""
        config = self.config()
        find_hook(config).widths = (1.0, 0.75)
        config.val_cfg = dict(type='SubnetValLoop', widths=(1.0, 0.5))
        config.model.backbone.update(widths=(1.0, 0.75, 0.5), norm_eval=False)
        with pytest.raises(ValueError, match='width 0.5'):
            check_model(config, ('train', 'val'))
        for change in (
            dict(custom_hooks=[*config.custom_hooks, dict(type='BNCalibrationHook')]),
            dict(custom_hooks=[]),
        ):
            changed = copy.deepcopy(config)
            changed.update(change)
            check_model(changed, ('train', 'val'))
        check_model(config, ('train', 'val'), self.weights())
        config.val_cfg.pop('widths')  # the grid of the model
        with pytest.raises(ValueError, match='width 0.5'):
            check_model(config, ('train', 'val'))
        config.val_cfg.widths = (1.0, 0.7)
        with pytest.raises(ValueError, match='width 0.7 has no batch-norm'):
            check_model(config, ('train', 'val'))
        config.val_cfg.calibration_batches = 2
        check_model(config, ('train', 'val'))

    def test_a_checkpoint_may_know_more_widths(self):
        """As tools/misc/calibrate.py adds them; the tools evaluate them without a change of the config."""
        config = self.config()
        config.test_cfg = dict(type='SubnetTestLoop', widths=(1.0, 0.6))
        config.val_cfg = dict(type='SubnetValLoop', widths=(1.0, 0.6))
        weights = self.weights()
        state = weights['state_dict']
        state.update({f'{name[:-3]}0_6': value for name, value in state.items() if name.endswith('_at_0_5')})
        check_model(config, ('test',))
        check_model(config, ('train', 'val'), weights)

    def test_batch_norms_stay_slimmable(self):
        config = self.config()
        config.sync_bn = 'torch'
        with pytest.raises(ValueError, match="sync_bn='torch' would replace"):
            check_model(config, ('train',), self.weights())


class TestColors:
    def config(self, color_type: str) -> dict:
        pipeline = [dict(type='LoadImageFromFile', color_type=color_type)]
        return dict(train_dataloader=dict(dataset=dict(dataset=dict(pipeline=pipeline))))

    def test_grey_images_for_a_grey_model(self):
        model = build_model(grey())
        assert input_channels(model) == 1
        check_colors(self.config('grayscale'), model, ('train', 'val'))

    @pytest.mark.parametrize('color_type', ['unchanged', 'color_ignore_orientation'])
    def test_files_decide(self, color_type):
        check_colors(self.config(color_type), build_model(detector()), ('train',))

    @pytest.mark.parametrize(('make', 'color_type'), [(grey, 'color'), (detector, 'grayscale')])
    def test_others_are_named(self, make, color_type):
        model = build_model(make())
        with pytest.raises(ChannelMismatch, match=rf"train_dataloader: .*color_type='{color_type}'.*in_channels"):
            check_colors(self.config(color_type), model, ('train',))
        check_colors(self.config(color_type), model, ('val',))

    def test_a_mean_of_colors(self):
        model = build_model(grey(data_preprocessor__mean=[0.0] * 3, data_preprocessor__std=[1.0] * 3))
        with pytest.raises(ChannelMismatch, match='a mean of 3 channels, but the backbone expects 1'):
            check_colors(self.config('grayscale'), model, ('train',))


@pytest.mark.parametrize('kind', ['CSPDarknet', 'Darknet', 'HRNet', 'VGG'])
def test_input_channels_of_backbones(kind):
    """CSPDarknet starts with four pixels above each other."""
    branches = dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(64,))
    more = [
        dict(branches, num_branches=n, block='BASIC', num_blocks=(1,) * n, num_channels=(8,) * n) for n in (2, 3, 4)
    ]
    extra = dict(zip(('stage1', 'stage2', 'stage3', 'stage4'), (branches, *more)))
    options = {'Darknet': dict(depth=53), 'VGG': dict(depth=11), 'HRNet': dict(extra=extra)}.get(kind, {})
    kind = 'SlimmableVGG' if kind == 'VGG' else kind
    widths = dict(widths=(1.0,)) if kind == 'SlimmableVGG' else {}
    assert input_channels(MODELS.build(dict(type=kind, **options, **widths))) == 3
