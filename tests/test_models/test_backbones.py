"""Each backbone against mmdet's: bit for bit at width 1.0, and built narrow with the first channels' weights."""

import copy

import pytest
import torch
from mmcv.cnn import VGG, ConvModule
from mmcv.cnn.vgg import make_vgg_layer
from mmdet.models import backbones as stock
from mmdet.models.backbones.resnest import SplitAttentionConv2d
from mmdet.registry import MODELS
from torch import nn

import mmmutual
from mmmutual.models.backbones import MobileNetV1, SlimmableVGG
from mmmutual.slimming import plan_slimming
from tests.support.backbones import (
    GN,
    PIECES,
    OwnConv2d,
    assert_narrow_is_stock,
    hrnet_stages,
    randomize_norms,
    regnet,
    run,
)
from tests.support.masked import assert_narrow_is_masked, randomize

WIDTHS = (1.0, 0.75, 0.5, 0.25)
CSP = [[64, 128, 2, True, False], [128, 256, 1, False, True]]  # as in CSPDarknet.arch_settings, with two stages


def narrow_hrnet(width: float) -> stock.HRNet:
    """Its stem has a fixed width in mmdet."""
    net, stem = stock.HRNet(hrnet_stages(width), norm_eval=False), int(64 * width)
    net.conv1, net.bn1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
    net.conv2, net.bn2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
    net.layer1 = net._make_layer(net.blocks_dict['BOTTLENECK'], stem, stem, 1)
    return net


class ShortDarknet(stock.Darknet):
    arch_settings = {53: ((1, 2, 1), ((32, 64), (64, 128), (128, 256)))}


def narrow_darknet(width: float) -> stock.Darknet:
    class Narrow(ShortDarknet):
        arch_settings = {
            53: ((1, 2, 1), tuple((int(a * width), int(b * width)) for a, b in ShortDarknet.arch_settings[53][1]))
        }

    net = Narrow(out_indices=(1, 2, 3), norm_eval=False)
    act = dict(type='LeakyReLU', negative_slope=0.1)
    net.conv1 = ConvModule(3, int(32 * width), 3, padding=1, norm_cfg=dict(type='BN'), act_cfg=act)
    return net


def narrow_vgg(width: float, with_bn: bool) -> VGG:
    net, layers, inplanes = VGG(11, with_bn=with_bn, out_indices=(1, 2, 3, 4), bn_eval=False), [], 3
    for planes, blocks in zip((64, 128, 256, 512, 512), VGG.arch_settings[11]):
        layers += make_vgg_layer(inplanes, int(planes * width), blocks, with_bn=with_bn)
        inplanes = int(planes * width)
    net.features = nn.Sequential(*layers)
    return net


def scaled(kind: type, fixed: dict, **by_width):
    """Builds the stock class with arguments that the width multiplies."""

    def build(width: float) -> nn.Module:
        scale = {name: type(value)(value * width) for name, value in by_width.items()}
        return kind(**fixed, **scale, norm_eval=False)

    return build


def narrow_regnet(width: float) -> stock.RegNet:
    return stock.RegNet(regnet(width), stem_channels=int(32 * width), norm_eval=False)


def narrow_mobilenet_v2(width: float) -> stock.MobileNetV2:
    """At 0.25 the rounded channels of the first block agree by chance, where the full network has no shortcut."""
    net = stock.MobileNetV2(widen_factor=width)
    net.layer1[0].with_res_shortcut = False
    return net


SMALL = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1), depth=50)
SMALL_CSP = dict(arch_ovewrite=CSP, out_indices=(0, 1, 2))
CONCATENATED = {r'final_conv\.conv': (1, 2), r'attention\.fc': (2, 2), r'stage2\.1\.conv2\.conv': (1, 4)}

# slimmable class: arguments, what builds the stock network of a width, parts of its layers
CASES = {
    'ResNetV1d': (dict(SMALL, base_channels=64), scaled(stock.ResNetV1d, SMALL, base_channels=64), {}),
    'ResNeXt': (
        dict(SMALL, base_channels=32, groups=8, base_width=8),
        scaled(stock.ResNeXt, dict(SMALL, base_width=8), base_channels=32, groups=8),
        {},
    ),
    'RegNet': (dict(arch=regnet(), stem_channels=32), narrow_regnet, {}),
    'Res2Net': (
        dict(SMALL, base_channels=32, stem_channels=64, base_width=32),
        scaled(stock.Res2Net, SMALL, base_channels=32, stem_channels=64, base_width=32),
        PIECES,
    ),
    'HRNet': (dict(extra=hrnet_stages()), narrow_hrnet, {}),
    'Darknet': (dict(out_indices=(1, 2, 3)), narrow_darknet, {}),
    'CSPDarknet': (SMALL_CSP, scaled(stock.CSPDarknet, SMALL_CSP, widen_factor=1.0), CONCATENATED),
    'CSPDarknet-depthwise': (
        dict(SMALL_CSP, use_depthwise=True),
        scaled(stock.CSPDarknet, dict(SMALL_CSP, use_depthwise=True), widen_factor=1.0),
        CONCATENATED,
    ),
    'CSPNeXt': (SMALL_CSP, scaled(stock.CSPNeXt, SMALL_CSP, widen_factor=1.0), CONCATENATED),
    'MobileNetV1': ({}, scaled(MobileNetV1, {}, widen_factor=1.0), {}),
    'MobileNetV2': ({}, narrow_mobilenet_v2, {}),
    'VGG': (dict(depth=11), lambda width: narrow_vgg(width, with_bn=False), {}),
    'VGG-BN': (dict(depth=11, with_bn=True), lambda width: narrow_vgg(width, with_bn=True), {}),
}


@pytest.fixture(autouse=True)
def _short_darknet(monkeypatch):
    monkeypatch.setattr(stock.Darknet, 'arch_settings', ShortDarknet.arch_settings)


def build(case: str, **options) -> nn.Module:
    config = dict(CASES[case][0], type=f'Slimmable{case.split("-")[0]}', widths=WIDTHS, norm_eval=False, **options)
    return MODELS.build(copy.deepcopy(config))


@pytest.mark.parametrize('case', CASES)
def test_full_width_is_stock_bit_for_bit(case):
    slim, full = build(case), CASES[case][1](1.0)
    randomize_norms(full)
    result = slim.load_state_dict(full.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    x = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(run(slim, x), run(full, x), strict=True):
        assert torch.equal(ours, theirs)
    gradients = {name: parameter.grad for name, parameter in full.named_parameters()}
    for name, parameter in slim.named_parameters():
        grad = gradients.pop(name)
        assert (parameter.grad is None) == (grad is None), name
        assert grad is None or torch.equal(parameter.grad, grad), name
    assert not gradients
    for name, value in full.state_dict().items():
        assert torch.equal(slim.state_dict()[name], value), name


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('width', [0.75, 0.25])
@pytest.mark.parametrize('case', CASES)
@pytest.mark.integration
def test_narrow_width_is_a_narrow_stock_network(case, width, training):
    slim, narrow, parts = build(case).double(), CASES[case][1](width).double(), CASES[case][2]
    randomize_norms(slim)
    assert_narrow_is_stock(slim, narrow, parts, width, training)


@pytest.mark.parametrize('case', CASES)
@pytest.mark.integration
def test_narrow_width_is_the_masked_full_network(case):
    slim = build(case).double()
    slim.eval()
    randomize(slim)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    assert_narrow_is_masked(slim, lambda net: net(x), WIDTHS)


# not HRNet and Darknet, whose reference has a stem of its own, and VGG, which mmcv initialises without a config
@pytest.mark.parametrize('case', [case for case in CASES if not case.startswith(('HRNet', 'Darknet', 'VGG'))])
@pytest.mark.integration
def test_same_seed_same_initial_weights_as_stock(case):
    states = []
    for make in (lambda: CASES[case][1](1.0), lambda: build(case)):
        torch.manual_seed(3)
        model = make()
        model.init_weights()
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_whole_groups_when_a_width_cuts_one():
    slim = MODELS.build(
        dict(type='SlimmableRegNet', arch=dict(regnet(), group_w=16), widths=WIDTHS, norm_eval=False, stem_channels=32)
    )
    for width in WIDTHS:
        mmmutual.set_width(slim, width)
        slim(torch.rand(2, 3, 32, 32))  # 32 channels in groups of 16 cannot become 24
    assert slim.layer1[0].conv1(torch.rand(1, 8, 4, 4)).size(1) == 16


@pytest.mark.integration
def test_vgg_loads_the_names_of_torchvision(tmp_path):
    """``features.N`` and, which a backbone leaves out, ``classifier.N``."""
    weights = {name: torch.rand_like(value) for name, value in VGG(16, num_classes=10).state_dict().items()}
    torch.save(weights, tmp_path / 'vgg16.pth')
    backbone = SlimmableVGG(16, WIDTHS, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg16.pth')))
    backbone.init_weights()
    state = backbone.state_dict()
    assert set(state) == {name for name in weights if name.startswith('features.')}
    assert all(torch.equal(state[name], weights[name]) for name in state)


def test_vgg_initial_weights_and_frozen_stages():
    backbone = SlimmableVGG(11, WIDTHS, with_bn=True, frozen_stages=1, norm_eval=False)
    before = backbone.features[0].weight.clone()
    backbone.init_weights()
    assert not torch.equal(backbone.features[0].weight, before)
    backbone.train()
    assert [p.requires_grad for p in backbone.features[0].parameters()] == [False, False]
    assert backbone.features[4].weight.requires_grad
    assert len(SlimmableVGG(11, WIDTHS, out_indices=(4,))(torch.rand(1, 3, 32, 32))) == 1


def test_mobilenet_v1_options():
    net = MobileNetV1(frozen_stages=2, norm_eval=True, out_indices=(0, 5)).train()
    assert [out.shape[1:] for out in net(torch.rand(1, 3, 64, 64))] == [(32, 32, 32), (1024, 2, 2)]
    assert not net.layer2[0].depthwise_conv.conv.weight.requires_grad
    assert net.layer3[0].depthwise_conv.conv.weight.requires_grad
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ValueError, match='out_indices must be among 0 to 5, but got'):
        MobileNetV1(out_indices=(6,))
    with pytest.raises(ValueError, match='frozen_stages must be -1 to 5, but got 6'):
        MobileNetV1(frozen_stages=6)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(type='SlimmableVGG', depth=16, num_classes=10), 'backbone without classifier: leave num_classes=10 out'),
        (dict(type='SlimmableVGG', depth=16, widths=()), 'widths is empty'),
        (
            dict(type='SlimmableMobileNetV2', conv_cfg=dict(type=OwnConv2d)),
            'SlimmableMobileNetV2 cannot be made slimmable: OwnConv2d needs all of its channels',
        ),
    ],
)
def test_options_that_cannot_slim(options, text):
    with pytest.raises(ValueError, match=text):
        MODELS.build(dict(dict(widths=WIDTHS), **options))


@pytest.mark.integration
@pytest.mark.parametrize(
    'options',
    [
        dict(type='SlimmableResNeXt', depth=50, groups=8, base_width=8, norm_cfg=GN),
        dict(type='SlimmableResNeXt', depth=50, dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(True,) * 4),
        dict(type='SlimmableRes2Net', depth=50, base_width=32, norm_cfg=GN),
        dict(type='SlimmableHRNet', extra=hrnet_stages(), norm_cfg=dict(type='IN')),
        dict(type='SlimmableCSPDarknet', arch_ovewrite=CSP, out_indices=(0, 1, 2), norm_cfg=GN),
    ],
    ids=lambda options: options['type'],
)
def test_options_that_slim_in_part_give_narrow_levels(options):
    """They are the full network in which the absent channels are zero."""
    model = MODELS.build(dict(dict(widths=WIDTHS, norm_eval=False), **options)).double()
    model.eval()
    randomize(model)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        full = [level.size(1) for level in model(images)]
        assert_narrow_is_masked(model, lambda net: net(images), WIDTHS)
        mmmutual.set_width(model, 0.5)
        assert [level.size(1) for level in model(images)] == [channels // 2 for channels in full]


@pytest.mark.parametrize('groups', [1, 2])
def test_split_attention_slims_in_the_pieces_of_its_radix(groups):
    """With groups, its radix lies across them, so what it splits is full; what it reads slims."""
    net = stock.ResNeSt(depth=50, base_channels=16, stem_channels=32, groups=groups).double()
    net.eval()
    randomize(net)
    plan = plan_slimming(net)
    assert (plan.share > 0.99) == (groups == 1), str(plan)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    plan.apply_(WIDTHS)
    assert isinstance(net.layer1[0].conv2, SplitAttentionConv2d)
    assert_narrow_is_masked(net, lambda model: model(images), WIDTHS)
    mmmutual.set_width(net, 0.5)
    with torch.no_grad():
        assert [level.size(1) for level in net(images)] == [32, 64, 128, 256]
