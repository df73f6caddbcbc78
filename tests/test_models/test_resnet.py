import copy

import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

import mmmutual
from mmmutual import SlimmableResNet
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, SlimGroupNorm, SlimSyncBatchNorm2d
from tests.support.backbones import GN, OwnConv2d, randomize_norms, run
from tests.support.narrow import assert_same_gradients, carry_weights

WIDTHS = (1.0, 0.75, 0.5, 0.25)
BN = dict(type='BN', requires_grad=True)


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(norm_eval=False),
        dict(deep_stem=True, avg_down=True, style='caffe'),
        dict(frozen_stages=2),
        dict(with_cp=True, norm_eval=False),
        dict(norm_cfg=GN),
        dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(1, 3)),
        dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), zero_init_residual=False),
    ],
)
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.integration
def test_full_width_is_stock_bit_for_bit(depth, options):
    slim = SlimmableResNet(depth, WIDTHS, base_channels=16, **copy.deepcopy(options))
    stock = ResNet(depth, base_channels=16, **copy.deepcopy(options))
    randomize_norms(stock)
    result = slim.load_state_dict(stock.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    x = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(run(slim, x), run(stock, x)):
        assert torch.equal(ours, theirs)
    theirs = dict(stock.named_parameters())
    for name, parameter in slim.named_parameters():
        grad = theirs[name].grad
        assert (parameter.grad is None) == (grad is None), name
        assert grad is None or torch.equal(parameter.grad, grad), name
    for name, value in stock.state_dict().items():
        assert torch.equal(slim.state_dict()[name], value), name


def test_same_seed_same_initial_weights_as_stock():
    states = []
    for build in (lambda: ResNet(50, base_channels=16), lambda: SlimmableResNet(50, WIDTHS, base_channels=16)):
        torch.manual_seed(3)
        model = build()
        model.init_weights()
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.integration
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('options', [{}, dict(deep_stem=True), dict(avg_down=True), dict(norm_cfg=GN)], ids=str)
@pytest.mark.parametrize('width', [0.75, 0.5, 0.25])
@pytest.mark.parametrize('depth', [18, 50])
def test_narrow_width_is_a_narrow_stock_network(depth, width, options, training):
    slim = SlimmableResNet(depth, WIDTHS, norm_eval=False, **options).double()
    randomize_norms(slim)
    mmmutual.set_width(slim, width)
    if 'norm_cfg' in options:  # channels per group are fixed, so the narrow network has fewer groups
        options = dict(norm_cfg=dict(GN, num_groups=int(16 * width)))
    narrow = ResNet(depth, base_channels=int(64 * width), norm_eval=False, **options).double()
    carry_weights(slim, narrow)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(run(slim, x, training), run(narrow, x, training)):
        torch.testing.assert_close(ours, theirs)
    assert_same_gradients(slim, narrow)


def test_every_parameter_gets_a_gradient_at_every_width():
    slim = SlimmableResNet(18, WIDTHS, norm_eval=False)
    for width in WIDTHS:
        slim.zero_grad()
        mmmutual.set_width(slim, width)
        run(slim, torch.rand(2, 3, 32, 32))
        assert all(parameter.grad is not None for parameter in slim.parameters())


@pytest.mark.parametrize(
    ('norm', 'kind'),
    [('BN', SlimBatchNorm2d), ('SyncBN', SlimSyncBatchNorm2d), ('SlimBN', SlimBatchNorm2d), ('GN', SlimGroupNorm)],
)
def test_norms_of_existing_configs_become_slimmable(norm, kind):
    cfg = dict(type=norm, num_groups=8) if norm == 'GN' else dict(type=norm)
    model = SlimmableResNet(18, WIDTHS, norm_cfg=cfg)
    assert {type(layer) for layer in model.modules() if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm))} == {kind}
    assert {type(layer) for layer in model.modules() if isinstance(layer, nn.Conv2d)} == {SlimConv2d}


@pytest.mark.integration
@pytest.mark.parametrize('options', [dict(norm_cfg=dict(type='IN')), dict(conv_cfg=dict(type='ConvWS'))], ids=str)
@pytest.mark.parametrize('width', [0.75, 0.25])
def test_other_norms_and_convolutions_slim(width, options):
    slim = SlimmableResNet(50, WIDTHS, norm_eval=False, **options).double()
    randomize_norms(slim)
    mmmutual.set_width(slim, width)
    narrow = ResNet(50, base_channels=int(64 * width), norm_eval=False, **options).double()
    carry_weights(slim, narrow)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(run(slim, x), run(narrow, x)):
        torch.testing.assert_close(ours, theirs)
    assert_same_gradients(slim, narrow)


def test_what_a_deformable_convolution_with_groups_of_offsets_takes_is_complete():
    """The convolution behind it slims again."""
    options = dict(dcn=dict(type='DCNv2', deform_groups=2), stage_with_dcn=(False, True, False, True))
    model = SlimmableResNet(50, WIDTHS, base_channels=16, norm_eval=False, **options)
    assert not model.layer2[0].conv1.slim_out and model.layer2[0].conv3.slim_out and model.layer1[0].conv1.slim_out
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model(torch.rand(2, 3, 64, 64))] == [32, 64, 128, 256]


@pytest.mark.parametrize('position', ['after_conv1', 'after_conv2', 'after_conv3'])
def test_plugins_slim(position):
    """A context block pools over pixels, and its layer norm takes all of what is between its convolutions."""
    plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position=position)]
    model = SlimmableResNet(50, WIDTHS, base_channels=16, norm_eval=False, plugins=plugins)
    blocks = [module for module in model.modules() if type(module).__name__ == 'ContextBlock']
    assert len(blocks) == 16
    for block in blocks:
        first, last = block.channel_add_conv[0], block.channel_add_conv[3]
        assert isinstance(first, SlimConv2d) and not first.slim_out and last.slim_out
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model(torch.rand(2, 3, 64, 64))] == [32, 64, 128, 256]


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(widths=()), 'widths is empty'),
        (dict(widths=(2.0, 1.0)), 'each of widths must be above 0 and at most 1'),
        (
            dict(conv_cfg=dict(type=OwnConv2d)),
            'SlimmableResNet cannot be made slimmable: OwnConv2d needs all of its channels',
        ),
    ],
)
def test_options_that_cannot_slim(options, text):
    with pytest.raises(ValueError, match=text):
        SlimmableResNet(**{'depth': 50, 'widths': WIDTHS, **options})


def test_a_layer_that_cannot_slim_takes_all():
    class WithUnknown(SlimmableResNet):
        """The stem has all of its channels, and so has what is added to it."""

        def _make_stem_layer(self, *args):
            super()._make_stem_layer(*args)
            self.extra = OwnConv2d(64, 64, 1)

        def forward(self, x):
            x = self.relu(self.norm1(self.conv1(x)))
            return self.layer1(self.extra(x))

    model = WithUnknown(18, WIDTHS)
    assert type(model.conv1) is nn.Conv2d and type(model.extra) is OwnConv2d
    assert model.layer1[0].conv1.slim_out and not model.layer1[0].conv2.slim_out
