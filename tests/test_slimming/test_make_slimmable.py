"""Built models made slimmable in place, and stock again."""

import copy

import pytest
import torch
from mmcv.cnn.bricks import ContextBlock
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import Res2Net, ResNet
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from torch import nn

import mmmutual
from mmmutual.layers import (
    SlimBatchNorm2d,
    SlimConv2d,
    Slimmable,
    slim_layer_,
)
from mmmutual.slimming import plan_slimming
from tests.support.backbones import OwnConv2d

WIDTHS = (1.0, 0.5)


class Net(nn.Module):
    """The parts of a detector: a neck, and a head whose batch norm keeps statistics of its own."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.backbone = ResNet(18, norm_eval=False, base_channels=16, **options)
        self.neck = FPN([16, 32, 64, 128], 8, 4)
        self.bbox_head = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))

    def extract_feat(self, x):
        return self.neck(self.backbone(x))

    def forward(self, x):
        return self.bbox_head(self.extract_feat(x)[0])


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64)


def randomize(model: nn.Module) -> None:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.normal_(norm.running_mean, std=0.1)


def widths_of_levels(model: nn.Module, images: torch.Tensor) -> list[int]:
    """Channels of the levels of a backbone at width 0.5."""
    mmmutual.set_width(model, 0.5)
    model.train()
    return [level.size(1) for level in model(images)]


def test_width_one_is_stock_with_the_very_same_parameters(images):
    model = Net()
    model.eval()
    randomize(model)
    model.backbone.conv1.weight.requires_grad = False
    model.backbone.layer1.train()
    parameters, state, modes = list(model.parameters()), dict(model.state_dict()), [m.training for m in model.modules()]
    expected = copy.deepcopy(model)(images)
    mmmutual.make_slimmable_(model, WIDTHS)
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), parameters, strict=True))
    assert [m.training for m in model.modules()] == modes
    after = model.state_dict()
    assert set(after) - set(state) == {key for key in after if key.endswith('_at_0_5')}
    assert all(after[key].data_ptr() == value.data_ptr() for key, value in state.items())
    assert torch.equal(model(images), expected)


def test_the_backbone_slims_the_neck_takes_it_and_the_head_is_stock(images):
    model = Net()
    model.train()
    mmmutual.make_slimmable_(model, WIDTHS)
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model.backbone(images)] == [8, 16, 32, 64]
    assert [level.size(1) for level in model.extract_feat(images)] == [8] * 4
    assert model(images).size(1) == 16
    head = model.bbox_head
    assert (type(head[0]), type(head[1])) == (nn.Conv2d, SlimBatchNorm2d)
    assert head[1].running_mean.abs().sum() == 0 < head[1].running_mean_at_0_5.abs().sum()


def test_a_narrow_network_uses_the_first_channels(images):
    """Against mmdet's own ResNet of half the channels."""
    model = ResNet(18, base_channels=16, norm_eval=False)
    randomize(model)
    mmmutual.make_slimmable_(model, WIDTHS)
    narrow = ResNet(18, base_channels=8, stem_channels=8, norm_eval=False)
    for ours, theirs in zip(model.parameters(), narrow.parameters(), strict=True):
        theirs.data = ours.data[tuple(slice(size) for size in theirs.shape)].clone()
    mmmutual.set_width(model, 0.5)
    model.train()
    narrow.train()
    for ours, theirs in zip(model(images), narrow(images)):
        torch.testing.assert_close(ours, theirs)


def test_twice_is_once_and_undo_leaves_no_trace(images):
    model = Net()
    model.eval()
    classes, attributes = [type(m) for m in model.modules()], [set(vars(m)) for m in model.modules()]
    state, expected = model.state_dict(), model(images)
    mmmutual.make_slimmable_(model, WIDTHS)
    layers = [module for module in model.modules() if isinstance(module, Slimmable)]
    mmmutual.make_slimmable_(model, WIDTHS)
    assert layers == [module for module in model.modules() if isinstance(module, Slimmable)]
    assert len([key for key in model.state_dict() if key.startswith('backbone.bn1.running_mean')]) == 2
    mmmutual.use_width(model, 0.5).__enter__()
    mmmutual.undo_slimmable_(model)
    mmmutual.undo_slimmable_(model)
    assert [type(m) for m in model.modules()] == classes
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert list(model.state_dict()) == list(state)
    assert torch.equal(model(images), expected)


def test_a_shared_layer_stays_shared():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3))
    model.append(model[1])
    mmmutual.make_slimmable_(model, WIDTHS)
    assert model[2] is model[1] and isinstance(model[1], SlimConv2d)
    assert len(list(model.parameters())) == 4


def test_the_filter_decides_by_layer_and_name():
    seen = {}

    def without_heads(layer, name):
        seen[name] = layer
        return not name.startswith('bbox_head')

    model = Net()
    mmmutual.make_slimmable_(model, WIDTHS, without_heads)
    assert {'backbone.conv1', 'backbone.bn1', 'neck.lateral_convs.0.conv', 'bbox_head.1'} <= set(seen)
    assert seen['backbone.conv1'] is model.backbone.conv1
    assert type(model.bbox_head[1]) is nn.BatchNorm2d and type(model.neck.lateral_convs[0].conv) is SlimConv2d


def test_what_a_layer_that_was_left_stock_takes_is_complete(images):
    """Only the first convolutions of the blocks slim: all others write a level, which the stock neck takes."""
    model = Net()
    mmmutual.make_slimmable_(model, WIDTHS, lambda layer, name: name.startswith('backbone'))
    assert not any(isinstance(layer, Slimmable) for layer in model.neck.modules())
    assert widths_of_levels(model.backbone, images) == [16, 32, 64, 128]
    assert {name for name, layer in model.named_modules() if getattr(layer, 'slim_out', False)} == {
        f'backbone.layer{stage}.{block}.conv1' for stage in (1, 2, 3, 4) for block in (0, 1)
    }


def test_a_deformable_convolution_with_groups_of_offsets_needs_all_channels(images):
    """Each group is a fixed part of them. The stem, whose channels the first stage adds to its own, gives all of them too."""
    model = Net()
    model.backbone.layer3[0].conv1 = ModulatedDeformConv2dPack(32, 64, 3, stride=2, padding=1, deform_groups=2)
    model.eval()
    plan = plan_slimming(model)
    assert 'ModulatedDeformConv2dPack needs all of its channels' in plan.reasons
    assert 'multiply-adds kept: ModulatedDeformConv2dPack needs all of its channels' in str(plan)
    plan.apply_(WIDTHS)
    assert type(model.backbone.layer3[0].conv1) is ModulatedDeformConv2dPack
    assert widths_of_levels(model.backbone, images) == [8, 32, 32, 64]
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model.extract_feat(images)] == [8] * 4


def test_a_backbone_of_which_nothing_slims_is_refused():
    model = ResNet(18, norm_cfg=dict(type='GN', num_groups=8), conv_cfg=dict(type=OwnConv2d))
    with pytest.raises(ValueError, match='ResNet cannot be made slimmable: OwnConv2d needs all of its channels'):
        mmmutual.make_slimmable_(model, WIDTHS)
    assert not any(isinstance(layer, Slimmable) for layer in model.modules())


def test_weights_are_standardised_over_the_active_ones(images):
    conv = ConvWS2d(3, 16, 3, eps=1e-3)
    expected = conv(images)
    slim_layer_(conv, WIDTHS)
    assert torch.equal(conv(images), expected)
    mmmutual.set_width(conv, 0.5)
    narrow = ConvWS2d(3, 8, 3, eps=1e-3)
    narrow.weight.data, narrow.bias.data = conv.weight.data[:8], conv.bias.data[:8]
    torch.testing.assert_close(conv(images), narrow(images))


def test_several_models_are_refused():
    model = nn.Module()
    model.teacher, model.student = Net(), Net()
    with pytest.raises(ValueError, match=r'Module consists of several models: .* teacher\.backbone, student\.backbone'):
        mmmutual.make_slimmable_(model, WIDTHS)


def test_a_deformable_convolution_slims_with_its_offsets_and_undoes(images):
    model = ResNet(
        50, dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(False, False, False, True), norm_eval=False
    )
    mmmutual.make_slimmable_(model, WIDTHS)
    block = model.layer4[0]
    assert block.conv1.slim_out and block.conv2.slim_out and isinstance(block.conv2, ModulatedDeformConv2dPack)
    assert type(block.conv2.conv_offset) is nn.Conv2d
    assert widths_of_levels(model, images) == [128, 256, 512, 1024]
    mmmutual.undo_slimmable_(model)
    assert type(block.conv2) is ModulatedDeformConv2dPack


@pytest.mark.parametrize('position', ['after_conv2', 'after_conv3'])
def test_a_context_block_slims(position, images):
    plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), stages=(False, True, False, False), position=position)]
    model = ResNet(50, plugins=plugins, norm_eval=False)
    assert any(isinstance(module, ContextBlock) for module in model.modules())
    mmmutual.make_slimmable_(model, WIDTHS)
    assert widths_of_levels(model, images) == [128, 256, 512, 1024]


def test_res2net_splits_the_active_channels_and_undoes(images):
    model = Res2Net(depth=50, scales=4, base_width=26, deep_stem=True, avg_down=True, norm_eval=False)
    model.eval()
    classes, expected = [type(m) for m in model.modules()], model(images)
    mmmutual.make_slimmable_(model, WIDTHS)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model(images), expected))
    assert widths_of_levels(model, images) == [128, 256, 512, 1024]
    mmmutual.undo_slimmable_(model)
    assert [type(m) for m in model.modules()] == classes


def test_a_bad_width_is_refused():
    with pytest.raises(ValueError, match='each of widths must be above 0 and at most 1'):
        mmmutual.make_slimmable_(Net(), (1.0, 2.0))


def test_a_detector_from_a_config_is_the_stock_class():
    config = dict(
        type='SlimmableDetector',
        detector='RetinaNet',
        widths=WIDTHS,
        backbone=dict(type='ResNet', depth=18, norm_eval=False),
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=16, num_outs=5),
        bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=16, feat_channels=16),
    )
    model = MODELS.build(config)
    assert type(model).__name__ == 'RetinaNet'
    model.train()
    mmmutual.set_width(model, 0.5)
    assert [level.size(1) for level in model.extract_feat(torch.rand(1, 3, 64, 64))] == [16] * 5


def test_undo_leaves_blocks_that_were_built_slimmable(images):
    options = dict(type='SlimmableRes2Net', depth=50, scales=4, base_width=26, widths=WIDTHS, norm_eval=False)
    model = Net()
    model.backbone = MODELS.build(dict(options, base_channels=16))
    model.train()
    model.neck = FPN([64, 128, 256, 512], 8, 4)
    with mmmutual.use_width(model.backbone, 0.5), torch.no_grad():
        expected = model.backbone(images)
    mmmutual.make_slimmable_(model, WIDTHS)
    mmmutual.undo_slimmable_(model)
    assert not any(isinstance(layer, Slimmable) for layer in model.neck.modules())
    with mmmutual.use_width(model.backbone, 0.5), torch.no_grad():
        assert all(map(torch.equal, model.backbone(images), expected))


def test_an_error_leaves_what_was_slimmable_before():
    """A second call that fails undoes what it did, nothing else."""
    model = Net()
    model.backbone = Res2Net(depth=50, scales=4, base_width=26, base_channels=16, norm_eval=False)
    model.neck = FPN([64, 128, 256, 512], 8, 4)
    mmmutual.make_slimmable_(model.backbone, WIDTHS)
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=r'backbone\.\S+ \(SlimConv2d\) is slimmable already, with the out_segments'):
        mmmutual.make_slimmable_(model, WIDTHS, lambda layer, name: name.startswith('bbox_head'))
    assert [type(module) for module in model.modules()] == classes


@pytest.mark.parametrize(
    'kinds', [('GeneralizedAttention', 'NonLocal2d'), ('NonLocal2d', 'ContextBlock'), ('ContextBlock', 'NonLocal2d')]
)
@pytest.mark.integration
def test_two_plugins_in_a_row(kinds, images):
    settings = dict(
        GeneralizedAttention=dict(spatial_range=-1, num_heads=8, attention_type='0010', kv_stride=2),
        NonLocal2d=dict(),
        ContextBlock=dict(ratio=1 / 4),
    )
    plugins = [
        dict(cfg=dict(type=kind, **settings[kind]), stages=(False, True, False, False), position='after_conv2')
        for kind in kinds
    ]
    model = ResNet(50, plugins=plugins, norm_eval=False)
    mmmutual.make_slimmable_(model, WIDTHS)
    assert widths_of_levels(model, images) == [128, 256, 512, 1024]
