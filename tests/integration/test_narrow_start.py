"""A start from stock weights is logged in one line, any other start is not; a hook orders stock weights."""

import pytest
import torch
from mmdet.registry import MODELS

from mmmutual import order_channels_
from mmmutual.layers import SlimBatchNorm2d
from tests.support.tiny import build_runner, tiny_config, without_validation

TEXT = (
    ' only has batch-norm statistics for width 1.0, as the weights of a stock network: the widths 0.75, 0.5, '
    '0.25 start from channels that were never trained to work without the others. Freeze nothing (norm_eval=False, '
    "frozen_stages=-1), order the channels with dict(type='ChannelOrderHook') in custom_hooks, or start from slimmable "
    'pretraining: docs/pretraining.md'
)


@pytest.fixture(scope='module')
def weights(tiny_data, tmp_path_factory):
    """Files of weights: a stock detector's, a slimmable one's, and those of their backbones alone."""
    folder = tmp_path_factory.mktemp('weights')
    config = tiny_config(tiny_data, folder).model
    slimmable = MODELS.build(config)
    for layer in slimmable.modules():
        for width in layer.widths[1:] if isinstance(layer, SlimBatchNorm2d) else ():
            layer.set_statistics(width, torch.zeros(layer.num_features), torch.ones(layer.num_features))
    config.backbone.pop('widths')
    config.backbone.type, config.neck.type = 'ResNet', 'FPN'
    files = {}
    for kind, model in (('stock', MODELS.build(config)), ('slimmable', slimmable)):
        for part, module in (('detector', model), ('backbone', model.backbone)):
            files[kind, part] = str(folder / f'{kind}_{part}.pth')
            torch.save(dict(state_dict=module.state_dict()), files[kind, part])
    return files


@pytest.fixture
def warnings(tiny_data, tmp_path, weights):
    """Trains an iteration from the files given; returns what was said of the start."""

    def train(backbone=None, detector=None, **options) -> list[str]:
        config = without_validation(tiny_config(tiny_data, tmp_path, log_level='WARNING', **options))
        config.train_dataloader.dataset.indices = 2
        if backbone:
            config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=weights[backbone, 'backbone'])
        config.load_from = weights[detector, 'detector'] if detector else None
        runner = build_runner(config)
        messages = []
        runner.logger.handlers[0].emit = lambda record: messages.append(record.getMessage())
        runner.train()
        return [message for message in messages if 'stock network' in message]

    return train


def test_a_stock_backbone(warnings, weights):
    assert warnings(backbone='stock') == [weights['stock', 'backbone'] + TEXT]


@pytest.mark.parametrize('backbone', ['stock', 'slimmable'])
def test_a_stock_detector_stands_for_whatever_the_backbone_had(backbone, warnings, weights):
    assert warnings(backbone, 'stock') == [weights['stock', 'detector'] + TEXT]


@pytest.mark.parametrize(
    'files',
    [dict(), dict(backbone='slimmable'), dict(detector='slimmable'), dict(backbone='stock', detector='slimmable')],
)
def test_other_starts(files, warnings):
    assert not warnings(**files)


def test_other_widths_of_a_slimmable_start(warnings):
    options = {
        'custom_hooks': [dict(type='MutualLearningHook', widths=(1.0, 0.9))],
        'model.backbone.widths': (1.0, 0.9),
    }
    assert not warnings(backbone='slimmable', **options)


def test_without_narrow_widths(warnings):
    hook = dict(type='MutualLearningHook', widths=(1.0,), num_subnets=1)
    assert not warnings(backbone='stock', custom_hooks=[hook])


def test_a_resumed_run(warnings):
    assert warnings(backbone='stock')
    assert not warnings(backbone='stock', resume=True, **{'train_cfg.max_epochs': 2})


def test_a_hook_orders_the_channels_before_the_training(warnings, weights, tiny_data, tmp_path):
    """A learning rate of 0 shows the start. The EMA copies the model before the weights are loaded."""
    hooks = [dict(type='MutualLearningHook'), dict(type='EMAHook', momentum=0.5)]
    hooks += [dict(type='ChannelOrderHook', importance='l1')]  # all norms of these weights are 1
    options = {'custom_hooks': hooks, 'optim_wrapper.optimizer.lr': 0.0}
    assert not warnings(detector='stock', **options)
    expected = MODELS.build(tiny_config(tiny_data, tmp_path).model)
    expected.load_state_dict(torch.load(weights['stock', 'detector'])['state_dict'], strict=False)
    order = order_channels_(expected, importance='l1')
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    for state in (checkpoint['state_dict'], checkpoint['ema_state_dict']):
        state = {name.removeprefix('module.'): value for name, value in state.items()}
        for name, parameter in expected.named_parameters():
            assert torch.equal(state[name], parameter), name
    assert order.groups > 10
    assert not warnings(detector=None, resume=True, **options, **{'train_cfg.max_epochs': 2})
    resumed = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert all(torch.equal(resumed[name], parameter) for name, parameter in expected.named_parameters())
