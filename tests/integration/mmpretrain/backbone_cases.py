"""mmpretrain's backbones made slimmable: stock at width 1.0, narrow stock networks below (run by ../test_mmpretrain.py)."""

import copy
import pickle
from functools import partial

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.config import Config
from mmpretrain.models import backbones as stock
from mmpretrain.models.backbones.cspnet import CSPNet, DarknetBottleneck, ResNetBottleneck, ResNeXtBottleneck
from mmpretrain.models.backbones.hrnet import ResLayer
from mmpretrain.models.backbones.vgg import make_vgg_layer
from torch import nn

import mmmutual
from mmmutual.config import make_mutual
from mmmutual.slimming import plan_slimming
from tests.support.backbones import PIECES, assert_narrow_is_stock, hrnet_stages, randomize_norms, regnet, run
from tests.support.masked import assert_narrow_is_masked, randomize

WIDTHS = (1.0, 0.75, 0.5, 0.25)
TWO_STAGES = dict(depth=50, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
ALL = (0, 1, 2, 3)
REP = dict(num_blocks=[1, 2, 1, 1], group_layer_map=None, se_cfg=None)
ONE = dict(num_blocks=[1, 2, 1, 1], num_conv_branches=[1, 2, 1, 1], num_se_blocks=[0, 0, 1, 0])
HALVES = {r'expand_conv': (2, 1), r'final_conv\.conv': (1, 2)}


def scaled(kind, fixed, **by_width):
    """Builds the stock class with arguments that the width multiplies."""
    return lambda width: kind(**fixed, **{name: int(value * width) for name, value in by_width.items()})


def build_regnet(width):
    return stock.RegNet(regnet(width), stem_channels=int(32 * width), out_indices=ALL)


def build_mobilenet_v2(width):
    """Its last convolution has a fixed width in mmpretrain; its first block a shortcut at 0.25, by rounding."""
    net = stock.MobileNetV2(widen_factor=width, out_indices=(1, 2, 4, 7))
    net.layer1[0].use_res_connect = False
    net.conv2 = ConvModule(net.in_channels, int(1280 * width), 1, norm_cfg=net.norm_cfg, act_cfg=net.act_cfg)
    return net


def build_hrnet(width):
    """Its stem has a fixed width in mmpretrain."""
    net, stem = stock.HRNet(extra=hrnet_stages(width)), int(64 * width)
    net.conv1, net.bn1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
    net.conv2, net.bn2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
    net.layer1 = ResLayer(net.blocks_dict['BOTTLENECK'], 1, stem, 4 * stem)
    return net


def build_csp(block_fn, width):
    """Two stages of CSPDarkNet, CSPResNet or CSPResNeXt, whose depths are fixed in mmpretrain."""
    first, second, last = (int(channels * width) for channels in (64, 128, 256))
    grouped = block_fn is ResNeXtBottleneck
    groups = int(32 * width)
    options = dict(block_args=dict(base_channels=groups, groups=groups)) if grouped else {}  # 4 channels each
    arch = dict(
        block_fn=block_fn,
        in_channels=(first, second),
        out_channels=(second, last),
        num_blocks=(1, 2),
        expand_ratio=1 if block_fn is DarknetBottleneck else 2,
        bottle_ratio=2,
        has_downsampler=True,
        down_growth=True,
        **options,
    )
    stem = partial(nn.Conv2d, out_channels=first, kernel_size=3, padding=1)
    if not grouped or width == 1.0:
        return CSPNet(arch, stem, out_indices=(0, 1))
    net = CSPNet(arch | dict(has_downsampler=False), stem, out_indices=(0, 1))
    full = build_csp(block_fn, 1.0)
    for stage, template, (c_in, c_out) in zip(net.stages, full.stages, ((first, second), (second, last))):
        stage.downsample_conv = template.downsample_conv
        stage.downsample_conv.conv = nn.Conv2d(c_in, c_out, 3, 2, 1, groups=groups, bias=False)
        stage.downsample_conv.bn = nn.BatchNorm2d(c_out, eps=1e-5)
    return net


def build_vgg(norm_cfg, width):
    net = stock.VGG(11, norm_cfg=norm_cfg, out_indices=(1, 2, 3, 4))
    layers, channels_in = [], 3
    for channels, blocks in zip((64, 128, 256, 512, 512), net.stage_blocks):
        layers += make_vgg_layer(channels_in, int(channels * width), blocks, norm_cfg=norm_cfg)
        channels_in = int(channels * width)
    net.features = nn.Sequential(*layers)
    return net


def build_repvgg(width):
    return stock.RepVGG(REP | dict(width_factor=[0.5 * width] * 4), out_indices=ALL, strides=(2, 1, 2, 1))


def build_mobileone(width):
    return stock.MobileOne(ONE | dict(width_factor=[width] * 4), out_indices=ALL)


def build_swin(width):
    arch = dict(embed_dims=int(128 * width), depths=[1, 1], num_heads=[int(4 * width), int(8 * width)])
    return stock.SwinTransformer(arch, out_indices=(0, 1), drop_path_rate=0.0)


# at most widths, three heads of 32 channels have other channels than the tokens
UNEVEN = dict(embed_dims=96, depths=[1, 1], num_heads=[3, 6])


def build_swin_v2():
    arch = UNEVEN | dict(extra_norm_every_n_blocks=0)
    return stock.SwinTransformerV2(arch, img_size=64, out_indices=(0, 1), window_size=8, drop_path_rate=0.0)


def build_vit(width):
    """Its class token, position embeddings and layer scales lie between layers."""
    arch = dict(
        embed_dims=int(128 * width),
        num_layers=2,
        num_heads=int(4 * width),
        feedforward_channels=int(256 * width),
    )
    return stock.VisionTransformer(
        arch, img_size=64, out_type='featmap', out_indices=(0, 1), layer_scale_init_value=0.5, norm_cfg=dict(type='LN')
    )


def build_convnext(width, **options):
    arch = dict(depths=[1, 1], channels=[int(32 * width), int(64 * width)])
    options = dict(layer_scale_init_value=0.5) | options
    return stock.ConvNeXt(arch, out_indices=(0, 1), gap_before_final_norm=False, **options)


QKV = {r'qkv': (3, 1)}
CASES = {
    'ResNet': (scaled(stock.ResNet, TWO_STAGES, stem_channels=64, base_channels=64), {}),
    'ResNetV1c': (scaled(stock.ResNetV1c, TWO_STAGES, stem_channels=64, base_channels=64), {}),
    'ResNetV1d': (scaled(stock.ResNetV1d, TWO_STAGES, stem_channels=64, base_channels=64), {}),
    'ResNeXt': (
        scaled(stock.ResNeXt, dict(TWO_STAGES, width_per_group=8), stem_channels=64, base_channels=32, groups=8),
        {},
    ),
    'SEResNet': (scaled(stock.SEResNet, TWO_STAGES, stem_channels=64, base_channels=64), {}),
    'SEResNeXt': (
        scaled(stock.SEResNeXt, dict(TWO_STAGES, width_per_group=8), stem_channels=64, base_channels=64, groups=8),
        {},
    ),
    'Res2Net': (scaled(stock.Res2Net, TWO_STAGES, stem_channels=64, base_channels=32, base_width=32), PIECES),
    'RegNet': (build_regnet, {}),
    'MobileNetV2': (build_mobilenet_v2, {}),
    'HRNet': (build_hrnet, {}),
    'CSPDarkNet': (partial(build_csp, DarknetBottleneck), HALVES),
    'CSPResNet': (partial(build_csp, ResNetBottleneck), HALVES),
    'CSPResNeXt': (partial(build_csp, ResNeXtBottleneck), HALVES),
    'VGG': (partial(build_vgg, None), {}),
    'VGG-BN': (partial(build_vgg, dict(type='BN')), {}),
    'RepVGG': (build_repvgg, {}),
    'MobileOne': (build_mobileone, {}),
    'Swin': (build_swin, QKV),
    'VisionTransformer': (build_vit, QKV),
    'ConvNeXt': (build_convnext, {}),
    'ConvNeXt of maps': (partial(build_convnext, linear_pw_conv=False), {}),
    'ConvNeXtV2': (partial(build_convnext, use_grn=True, layer_scale_init_value=0.0), {}),
}

# no narrow stock class, or a fixed expansion: they slim, and are compared at width 1.0
OTHERS = {
    'CSPDarkNet-53': lambda: stock.CSPDarkNet(53, out_indices=(3, 4)),
    'CSPResNeXt-50': lambda: stock.CSPResNeXt(50, out_indices=(2, 3)),
    'EfficientNet': lambda: stock.EfficientNet('b0', out_indices=(2, 3, 4)),
    'EfficientNetV2': lambda: stock.EfficientNetV2('s', out_indices=(2, 3)),
    'MobileNetV3': lambda: stock.MobileNetV3('small', out_indices=(0, 2, 7, 11)),
    'RegNet-3.2gf': lambda: stock.RegNet('regnetx_3.2gf', out_indices=ALL),
    'SEResNeXt-16d': lambda: stock.SEResNeXt(**TWO_STAGES, groups=8, width_per_group=16),
    'SwinV2': build_swin_v2,
    'Res2Net-26w': lambda: stock.Res2Net(depth=50, deep_stem=False, avg_down=False, out_indices=ALL),
}


def build(case: str) -> nn.Module:
    return CASES[case][0](1.0) if case in CASES else OTHERS[case]()


@pytest.mark.parametrize('case', [*CASES, *OTHERS])
def test_full_width_is_stock_bit_for_bit_and_undo_leaves_no_trace(case):
    full = build(case)
    randomize_norms(full)
    slim = copy.deepcopy(full)
    mmmutual.make_slimmable_(slim, WIDTHS)
    x = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(run(slim, x), run(full, x), strict=True):
        assert torch.equal(ours, theirs)
    for ours, (name, theirs) in zip(slim.parameters(), full.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        assert theirs.grad is None or torch.equal(ours.grad, theirs.grad), name
    state = slim.state_dict()
    assert all(torch.equal(state[name], value) for name, value in full.state_dict().items())
    mmmutual.undo_slimmable_(slim)
    assert list(slim.state_dict()) == list(full.state_dict())
    for ours, theirs in zip(slim.modules(), full.modules(), strict=True):
        assert type(ours) is type(theirs) and set(vars(ours)) == set(vars(theirs))


@pytest.mark.parametrize(('width', 'training'), [(0.75, True), (0.25, False)])
@pytest.mark.parametrize('case', CASES)
def test_narrow_width_is_a_narrow_stock_network(case, width, training):
    slim, narrow, parts = build(case).double(), CASES[case][0](width).double(), CASES[case][1]
    randomize_norms(slim)
    mmmutual.make_slimmable_(slim, WIDTHS)
    randomize_norms(slim)
    assert_narrow_is_stock(slim, narrow, parts, width, training)


@pytest.mark.parametrize('case', OTHERS)
def test_a_level_has_its_share_of_the_channels(case):
    """At a width that takes rounding, and cuts groups of CSPResNeXt, RegNet and SEResNeXt."""
    net = build(case)
    full = [level.size(1) for level in net(torch.rand(2, 3, 64, 64))]
    mmmutual.make_slimmable_(net, (1.0, 0.3))
    mmmutual.set_width(net, 0.3)
    for level, channels in zip(net(torch.rand(2, 3, 64, 64)), full, strict=True):
        assert abs(level.size(1) - 0.3 * channels) <= max(8, 0.1 * channels)


def test_a_block_of_a_class_of_its_own_pickles():
    net = build('Res2Net')
    mmmutual.make_slimmable_(net, WIDTHS)
    assert type(net.layer1[0]) is not type(build('Res2Net').layer1[0])
    assert type(pickle.loads(pickle.dumps(net.layer1[0]))) is type(net.layer1[0])


PARTS = {
    'ResNeSt': lambda: stock.ResNeSt(50),
    'CSPDarkNet-GN': lambda: stock.CSPDarkNet(53, norm_cfg=dict(type='GN', num_groups=8)),
    'ShuffleNetV2': lambda: stock.ShuffleNetV2(out_indices=(0, 1, 2)),
    'DenseNet': lambda: stock.DenseNet('121'),
    'Swin': lambda: stock.SwinTransformer(UNEVEN, out_indices=(0, 1)),
    'SwinV2': build_swin_v2,
    'ConvNeXt': lambda: stock.ConvNeXt('atto'),
    'ConvNeXt-cp': lambda: stock.ConvNeXt('atto', with_cp=True),
}


@pytest.mark.parametrize('case', PARTS)
def test_what_slims_in_part_is_the_full_network_with_channels_absent(case):
    """What concatenates, splits or normalises channels in another way than ResNet."""
    net = PARTS[case]().double()
    net.eval()
    randomize(net)
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    plan = plan_slimming(net)
    assert plan.share > 0.2, str(plan)
    plan.apply_(WIDTHS)
    net.eval()
    assert_narrow_is_masked(net, lambda model: model(images), (1.0, 0.5, 0.25), tolerance=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_checkpointed_blocks_slim_as_others(training):
    plans = []
    for with_cp in (False, True):
        net = stock.ConvNeXt('atto', with_cp=with_cp)
        net.train(training)
        plans.append([(layer.inputs, layer.outputs) for layer in plan_slimming(net).layers])
    assert plans[0] == plans[1]


def test_a_backbone_that_shuffles_all_of_its_channels_is_refused():
    net = stock.ShuffleNetV1()
    classes = [type(module) for module in net.modules()]
    with pytest.raises(ValueError, match='ShuffleNetV1 cannot be made slimmable: '):
        mmmutual.make_slimmable_(net, WIDTHS)
    assert [type(module) for module in net.modules()] == classes


def test_a_config_of_mmdet_with_a_backbone_of_mmpretrain():
    backbone = dict(type='mmpretrain.RegNet', arch='regnetx_400mf', out_indices=ALL, frozen_stages=1, norm_eval=True)
    model = dict(
        type='RetinaNet',
        backbone=backbone,
        neck=dict(type='FPN', in_channels=[32, 64, 160, 384], out_channels=16, num_outs=5),
        bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=16, feat_channels=16),
    )
    imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
    mutual = make_mutual(Config(dict(model=model, custom_imports=imports)), WIDTHS).model
    assert (mutual.type, mutual.detector) == ('SlimmableDetector', 'RetinaNet')
    assert mutual.backbone == backbone | dict(frozen_stages=-1, norm_eval=False)
    detector = MODELS.build(mutual).train()
    mmmutual.set_width(detector, 0.25)
    assert [level.size(1) for level in detector.backbone(torch.rand(2, 3, 64, 64))] == [8, 16, 40, 96]
    assert [level.size(1) for level in detector.extract_feat(torch.rand(2, 3, 64, 64))] == [16] * 5
