"""What torch, MMEngine and mmcv do with stock layers works with slimmable ones, or they say why not."""

import pytest
import torch
import torch.utils.checkpoint
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmdet.models.backbones import ResNet
from mmengine.analysis import get_model_complexity_info
from mmengine.model import BaseModule
from mmengine.model.efficient_conv_bn_eval import turn_on_efficient_conv_bn_eval_for_single_model
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import nn

import mmmutual
from mmmutual import layers
from mmmutual.layers.stock_convs import SlimConv2dAdaptivePadding
from mmmutual.layers.stock_norms import SlimFrozenBatchNorm2d
from mmmutual.models import SlimmableResNet
from mmmutual.upstream import in_backward

WIDTHS = (1.0, 0.5)
COUNTERPARTS = [
    (nn.Conv2d, layers.SlimConv2d),
    (ConvWS2d, layers.SlimConvWS2d),
    (nn.ConvTranspose2d, layers.SlimConvTranspose2d),
    (nn.Linear, layers.SlimLinear),
    (nn.BatchNorm2d, layers.SlimBatchNorm2d),
    (nn.BatchNorm2d, layers.SwitchableBatchNorm2d),
    (nn.SyncBatchNorm, layers.SlimSyncBatchNorm2d),
    (SyncBatchNorm, layers.SlimSyncBatchNorm2d),
    (nn.GroupNorm, layers.SlimGroupNorm),
]


@pytest.mark.parametrize(('stock', 'slim'), COUNTERPARTS)
def test_init_cfg_reaches_a_layer_by_the_names_of_its_stock_class(stock, slim):
    names = {stock.__name__, *(base.__name__ for base in stock.__bases__)} - {'Module', 'ConvWS2d', '_ConvTransposeNd'}
    for name in names:
        model = BaseModule(init_cfg=dict(type='Constant', val=0.25, bias=0.5, layer=name))
        model.layer = slim(16, 16, 1) if issubclass(slim, (nn.Conv2d, nn.ConvTranspose2d)) else slim(16, 8)
        model.init_weights()
        assert (model.layer.weight == 0.25).all() and (model.layer.bias == 0.5).all(), name


@pytest.mark.parametrize('kind', [layers.SlimBatchNorm2d, layers.SlimSyncBatchNorm2d, layers.SwitchableBatchNorm2d])
def test_batch_norms_without_bias(kind):
    slim, stock = kind(16, bias=False, widths=WIDTHS), nn.BatchNorm2d(16, bias=False)
    x = torch.rand(2, 16, 4, 4)
    assert slim.bias is None and torch.equal(slim(x), stock(x)) and torch.equal(slim.eval()(x), stock.eval()(x))
    mmmutual.set_width(slim.train(), 0.5)
    assert slim(x[:, :8]).shape == (2, 8, 4, 4)


def test_group_norm_without_bias():
    slim, stock, x = layers.SlimGroupNorm(16, 4, bias=False), nn.GroupNorm(4, 16, bias=False), torch.rand(2, 16, 4, 4)
    assert torch.equal(slim(x), stock(x))
    mmmutual.set_width(slim, 0.5)
    assert slim(x[:, :8]).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    ('kind', 'sizes'),
    [
        (layers.SlimConv2d, (4, 8, 3)),
        (layers.SlimConvTranspose2d, (4, 8, 3)),
        (layers.SlimLinear, (4, 8)),
        (layers.SlimBatchNorm2d, (8,)),
        (layers.SlimGroupNorm, (8, 2)),
    ],
)
def test_skip_init(kind, sizes):
    assert nn.utils.skip_init(kind, *sizes).weight.device.type == 'cpu'


@pytest.mark.parametrize(
    'layer',
    [
        layers.SlimConv2d(16, 16, 3, groups=16),
        layers.SlimConv2d(16, 16, 3),
        layers.SlimConvTranspose2d(16, 16, 2),
        layers.SlimLinear(6, 4),
        layers.SlimGroupNorm(16, 4),
        layers.SlimBatchNorm2d(16, widths=WIDTHS).eval(),
        SlimConv2dAdaptivePadding(16, 16, 3, stride=2),
        SlimFrozenBatchNorm2d(16),
    ],
)
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_jit_trace(layer):
    x = torch.rand(1, 16, 6, 6)
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), layer(x))


@pytest.mark.filterwarnings('ignore')
def test_mmengine_counts_a_grouped_network():
    def network(conv):
        return nn.Sequential(conv(3, 16, 3), conv(16, 16, 3, groups=16), conv(16, 8, 1))

    flops = [get_model_complexity_info(network(conv), (3, 16, 16))['flops'] for conv in (nn.Conv2d, layers.SlimConv2d)]
    assert flops[0] == flops[1] > 0


def test_a_symbolic_trace_keeps_slimmable_layers_as_leaves():
    network = nn.Sequential(layers.SlimConv2d(3, 16, 3), layers.SlimBatchNorm2d(16, widths=WIDTHS), nn.ReLU())
    graph = torch.fx.symbolic_trace(network)
    x = torch.rand(2, 3, 8, 8)
    for width in WIDTHS:
        mmmutual.set_width(network, width)
        assert torch.equal(graph(x), network(x))
    assert [node.op for node in graph.graph.nodes] == ['placeholder', *['call_module'] * 3, 'output']


@pytest.mark.parametrize('by', ['mmcv', 'mmengine'])
def test_efficient_conv_bn_eval_works_at_full_width_and_refuses_others(by):
    options = dict(conv_cfg=dict(type='SlimConv2d'), norm_cfg=dict(type='SlimBN', widths=WIDTHS))
    model = ConvModule(3, 16, 3, **options, efficient_conv_bn_eval=by == 'mmcv').eval()
    model.bn.set_statistics(0.5, torch.rand(8), torch.rand(8))
    x = torch.rand(1, 3, 8, 8)
    expected = model.activate(model.bn(model.conv(x)))
    network = nn.Sequential(model.conv, model.bn, model.activate) if by == 'mmengine' else model
    if by == 'mmengine':
        turn_on_efficient_conv_bn_eval_for_single_model(network)
    torch.testing.assert_close(network(x), expected)
    mmmutual.set_width(network, 0.5)
    with pytest.raises(ValueError, match='efficient_conv_bn_eval fuses all channels .* width is 0.5. Leave'):
        network(x)


def test_a_stock_checkpoint_loads_into_a_model_without_memory():
    stock = ResNet(18, base_channels=8)
    with torch.device('meta'):
        model = SlimmableResNet(18, WIDTHS, base_channels=8, norm_eval=False)
    model.load_state_dict(stock.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    images = torch.rand(2, 3, 64, 64)
    model.eval(), stock.eval()
    assert all(map(torch.equal, model(images), stock(images)))
    mmmutual.set_width(model, 0.5)
    with pytest.raises(ValueError, match='width 0.5 has no batch-norm statistics yet'):
        model(images)
    model.train()
    assert len(model(images)) == 4


def test_switchable_parameters_of_a_loaded_checkpoint_are_separate():
    with torch.device('meta'):
        norm = layers.SwitchableBatchNorm2d(16, widths=WIDTHS)
    norm.load_state_dict(nn.BatchNorm2d(16).state_dict(), assign=True)
    assert norm.weight_at_0_5.data_ptr() != norm.weight.data_ptr()


@pytest.mark.parametrize('layer', [nn.Conv2d(16, 16, 3), nn.Linear(6, 4)])
def test_a_parametrization_added_to_a_slimmable_layer_outlives_it(layer):
    x = torch.rand(1, 16, 6, 6)
    kind, expected = type(layer), layer(x)
    layers.slim_layer_(layer, WIDTHS)
    nn.utils.parametrizations.weight_norm(layer)
    torch.testing.assert_close(layer(x), expected)
    layers.unslim_layer_(layer)
    assert isinstance(layer, kind) and not hasattr(layer, 'slim_out')
    torch.testing.assert_close(layer(x), expected)
    nn.utils.parametrize.remove_parametrizations(layer, 'weight')
    assert type(layer) is kind


def test_a_backward_is_seen_while_it_runs():
    """A private name of torch tells it."""
    seen = []
    x = torch.ones(1, requires_grad=True)
    y = x * 2
    y.register_hook(lambda gradient: seen.append(in_backward()))
    y.backward()
    assert seen == [True] and not in_backward()


class Checkpointed(nn.Module):
    """A block that runs again in the backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.conv, self.norm = layers.SlimConv2d(16, 16, 1), layers.SlimBatchNorm2d(16, widths=(1.0, 0.95))
        self.reentrant = reentrant

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(
            lambda x: self.norm(self.conv(x)), x.clone().requires_grad_(), use_reentrant=self.reentrant
        ).sum()


@pytest.mark.parametrize('reentrant', [True, False])
def test_a_checkpointed_block_runs_again_at_the_width_of_its_forward_or_not_at_all(reentrant):
    """Widths 1.0 and 0.95 have the same channels here, so no shape tells them apart."""
    model, x = Checkpointed(reentrant), torch.rand(2, 16, 4, 4)
    for width in (1.0, 0.95, 0.95, 1.0):
        with mmmutual.use_width(model, width):
            (model(x) + model(x)).backward()
    with mmmutual.use_width(model, 0.95):
        loss = model(x)
    with pytest.raises(
        ValueError, match=r'\(with_cp\) runs SlimConv2d.* again at width 1, .*inside the same use_width'
    ):
        loss.backward()
    loss = loss.detach()
    with mmmutual.use_width(model, 0.95):
        loss = model(x)
    loss = loss + model(x)
    with pytest.raises(ValueError, match='again at width 1'):
        loss.backward()
