"""A slimmable model is cut to stock layers that compute the same, whatever made it slimmable."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models import FPN, ResNet
from torch import nn

import mmmutual
from mmmutual import layers
from mmmutual.deploy import narrow_

WIDTHS = (1.0, 0.5)
PARTS = (layers.Segment(16), layers.Segment.full(8), layers.Segment(48, divisor=16))
TWO = (layers.Segment(32), layers.Segment(40, 4))
LAYERS = {
    'conv': (nn.Conv2d(72, 72, 3), PARTS, TWO, 'Conv2d(48, 36, kernel_size=(3, 3), stride=(1, 1))'),
    'grouped': (nn.Conv2d(72, 144, 1, groups=9, bias=False), PARTS, None, 'Conv2d(48, 96, .*groups=6'),
    'transposed': (nn.ConvTranspose2d(72, 72, 2), PARTS, TWO, r'ConvTranspose2d\(48, 36'),
    'linear': (nn.Linear(72, 72), PARTS, TWO, 'Linear(in_features=48, out_features=36, bias=True)'),
    'norm': (nn.BatchNorm2d(72), PARTS, None, 'BatchNorm2d(48, '),
    'group norm': (nn.GroupNorm(9, 72), (layers.Segment(72),), None, 'GroupNorm(5, 40'),
    'group norm of segments': (nn.GroupNorm(9, 72), PARTS, None, 'GroupNorm(6, 48'),
    'layer norm': (nn.LayerNorm(72), PARTS, None, 'LayerNorm((48,)'),
}


@pytest.mark.parametrize('name', LAYERS)
def test_a_layer_is_cut_by_its_segments(name):
    layer, inputs, outputs, shown = LAYERS[name]
    kind, layer = type(layer), copy.deepcopy(layer)
    layer.weight.requires_grad_(False)
    layers.slim_layer_(layer, WIDTHS, inputs, outputs)
    model = nn.Sequential(layer)
    channels = sum(segment.active(0.5) for segment in inputs)
    mmmutual.set_width(model, 0.5)
    x = torch.rand(4, channels) if kind in (nn.Linear, nn.LayerNorm) else torch.rand(4, channels, 5, 5)
    model(x)  # statistics of a batch norm
    expected = model.eval()(x)
    narrow_(model, 0.5)
    assert type(layer) is kind and torch.equal(model(x), expected)
    assert set(vars(layer)) == set(vars(LAYERS[name][0]))
    assert set(layer.state_dict()) == set(LAYERS[name][0].state_dict())
    assert not layer.weight.requires_grad and layer.weight.is_contiguous()
    assert repr(layer).startswith(shown.partition('.*')[0].replace('\\', ''))
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in layer.state_dict().values())


@pytest.mark.parametrize(
    ('layer', 'stock'),
    [
        (layers.SlimConv2d(64, 32, 1), nn.Conv2d),
        (layers.SlimConv2d(64, 64, 3, groups=64), nn.Conv2d),
        (layers.SlimConvWS2d(64, 32, 1), 'ConvWS2d'),
        (layers.SlimConvTranspose2d(64, 32, 2), nn.ConvTranspose2d),
        (layers.SlimBatchNorm2d(64, widths=WIDTHS), nn.BatchNorm2d),
        (layers.SwitchableBatchNorm2d(64, widths=WIDTHS), nn.BatchNorm2d),
        (layers.SlimSyncBatchNorm2d(64, widths=WIDTHS), 'SyncBatchNorm'),
        (layers.SlimGroupNorm(64, 8), nn.GroupNorm),
    ],
)
def test_a_layer_built_by_hand_is_cut_to_what_arrives(layer, stock):
    model = nn.Sequential(layers.SlimConv2d(3, 64, 1), layer)
    mmmutual.set_width(model, 0.5)
    images = torch.rand(2, 3, 8, 8)
    expected = (model.train()(images), model.eval()(images))[1]
    narrow_(model, 0.5)
    assert not any(isinstance(module, layers.Slimmable) for module in model.modules())
    assert type(model[1]) is stock or type(model[1]).__name__ == stock
    assert torch.equal(model(images), expected) and model[0].out_channels == 32


def test_flattened_maps_arrive():
    model = nn.Sequential(
        layers.SlimConv2d(3, 48, 1), nn.AdaptiveAvgPool2d(3), nn.Flatten(), layers.SlimLinear(48 * 9, 16)
    )
    mmmutual.set_width(model, 0.5)
    expected = model(images := torch.rand(2, 3, 8, 8))
    narrow_(model, 0.5)
    assert model[3].in_features == 24 * 9 and torch.equal(model(images), expected)


def test_a_layer_that_does_not_run_keeps_its_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.auxiliary = layers.SlimConv2d(3, 16, 1), layers.SlimConv2d(16, 32, 1)

        def forward(self, x):
            return (self.first(x),)

    narrow_(net := Net(), 0.5)
    assert (net.first.out_channels, net.auxiliary.in_channels, net.auxiliary.out_channels) == (8, 16, 16)


def test_known_segments_need_no_run():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 16, 1)
            layers.slim_layer_(self.a, WIDTHS, (layers.Segment.full(3),), (layers.Segment(16),))

    narrow_(net := Net(), 0.5)
    assert net.a.weight.shape == (8, 3, 1, 1)
    net.b = layers.SlimConv2d(8, 8, 1)
    text = r'Net has slimmable layers without in_segments and does not run on a small image, .*Call divide\(inputs=\.\.\.\)'
    with pytest.raises(ValueError, match=text):
        narrow_(net, 0.5)


def test_a_layer_that_gets_different_numbers_of_channels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.SlimConv2d(3, 16, 1), layers.SlimConv2d(16, 16, 1, slim_out=False)

        def forward(self, x):
            return self.b(self.b(self.a(x)))

    with pytest.raises(ValueError, match=r'b \(SlimConv2d\) receives 8 and 16 channels in one run at width 0\.5'):
        narrow_(Net(), 0.5)


def test_a_parametrized_weight_is_refused():
    model = nn.Sequential(layers.SlimConv2d(3, 16, 1))
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match=r'the weight of 0 .* is computed by a parametrization.*remove_param'):
        narrow_(model, 0.5)


def test_other_slimmable_layers_are_refused():
    class Scale(layers.Slimmable, nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match=r'0 \(Scale\) cannot be narrowed: it is not a layer class of mmmutual'):
        narrow_(nn.Sequential(Scale(), layers.SlimConv2d(3, 8, 1)), 0.5)


def test_statistics_that_are_missing():
    model = nn.Sequential(layers.SlimConv2d(3, 16, 1), layers.SlimBatchNorm2d(16, widths=WIDTHS))
    with pytest.raises(ValueError, match='width 0.5 has no batch-norm statistics yet'):
        narrow_(model, 0.5)
    with pytest.raises(ValueError, match='width 0.3 has no batch-norm statistics: this model keeps them'):
        narrow_(model, 0.3)
    with pytest.raises(ValueError, match='has no slimmable layer'):
        narrow_(nn.Sequential(nn.Conv2d(3, 3, 1)), 0.5)
    narrow_(model, 0.3, trained=False)
    assert type(model[1]) is nn.BatchNorm2d and model[1].num_features == 8


def test_any_model_that_runs_on_an_image_is_cut():
    """Slimmed in place, with norms in the neck, without a detector around it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = ResNet(18, base_channels=16)
            self.neck = FPN([16, 32, 64, 128], 16, 4, norm_cfg=dict(type='BN'))
            self.own = ConvModule(16, 16, 1)

        def forward(self, x):
            return [self.own(level) for level in self.neck(self.backbone(x))]

    model = Net()
    mmmutual.make_slimmable_(model, WIDTHS)
    images = torch.rand(2, 3, 64, 64)
    with mmmutual.use_width(model, 0.5), torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, layers.SlimBatchNorm2d):
                layer.set_statistics(0.5, torch.rand(layer.num_features) + 1, torch.rand(layer.num_features) + 1)
        expected = model.eval()(images)
    narrow_(model, 0.5)
    with torch.no_grad():
        assert all(map(torch.equal, model(images), expected))
    assert model.neck.lateral_convs[3].conv.in_channels == 64
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) < 0.3 * sum(
        parameter.numel() for parameter in ResNet(18, base_channels=16).parameters()
    )
