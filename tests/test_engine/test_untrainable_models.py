"""Models that cannot be trained mutually are an error before the first iteration."""

import pytest
from mmengine.config import Config

from tests.support.mutual_trainings import config_for
from tests.support.tiny import build_runner, find_hook


def stock(config: Config) -> None:
    config.model.backbone.update(type='ResNet')
    config.model.backbone.pop('widths')
    config.model.neck.update(type='FPN')


def unknown_width(config: Config) -> None:
    find_hook(config).widths = (1.0, 0.6)


def frozen_norms(config: Config) -> None:
    config.model.backbone.norm_eval = True


def frozen_stage(config: Config) -> None:
    config.model.backbone.frozen_stages = 1


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (stock, 'MaskRCNN has no slimmable layer.*Swap its backbone for SlimmableResNet'),
        (unknown_width, r'width 0.6 has no batch-norm statistics.*\[1.0, 0.75, 0.5, 0.25\]'),
        (frozen_norms, r'backbone.bn1 is frozen.*no statistics for the widths \[0.75, 0.5, 0.25\].*norm_eval=False'),
        (frozen_stage, r'backbone.bn1 is frozen.*frozen_stages=-1'),
    ],
)
@pytest.mark.integration
def test_what_cannot_be_trained_is_an_error_before_the_first_iteration(change, text, tiny_data, tmp_path):
    config = config_for('sum', tiny_data, tmp_path)
    change(config)
    runner = build_runner(config)
    with pytest.raises(ValueError, match=text):
        runner.train()
    assert runner.iter == 0


def test_layers_that_are_fused_at_full_width_are_refused(tiny_data, tmp_path):
    config = config_for('sum', tiny_data, tmp_path)
    config.efficient_conv_bn_eval = ['backbone']
    with pytest.raises(ValueError, match=r"efficient_conv_bn_eval=\['backbone'\] fuses slimmable layers of backbone"):
        build_runner(config).train()


def test_sync_bn_is_refused(tiny_data, tmp_path):
    runner = build_runner(config_for('sum', tiny_data, tmp_path))
    runner.cfg.sync_bn = 'torch'
    with pytest.raises(ValueError, match="sync_bn='torch' would replace the slimmable batch norms.*SlimSyncBN"):
        runner.train()


@pytest.mark.integration
def test_batch_norms_outside_the_slimmable_modules_are_named(tiny_data, tmp_path, caplog):
    config = config_for('sum', tiny_data, tmp_path)
    config.model.roi_head.mask_head.norm_cfg = dict(type='BN')
    config.log_level = 'WARNING'
    runner = build_runner(config)
    messages = []
    runner.logger.handlers[0].emit = lambda record: messages.append(record.getMessage())
    runner.train()
    assert any('2 batch norms outside the slimmable modules' in m and 'mask_head' in m for m in messages)
