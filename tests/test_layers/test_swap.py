"""A stock layer becomes slimmable in place and is exactly what it was again."""

import copy
from collections import OrderedDict

import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding, wrappers
from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, MultiScaleDeformableAttention, SAConv2d
from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.layers import FrozenBatchNorm2d, SinePositionalEncoding
from mmdet.models.necks.ssd_neck import L2Norm
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import nn

import mmmutual
from mmmutual.layers import (
    Segment,
    SlimBatchNorm2d,
    SlimConv2d,
    SlimConvTranspose2d,
    SlimConvWS2d,
    SlimGroupNorm,
    SlimLayerNorm,
    SlimLinear,
    SlimSinePositionalEncoding,
    SlimSyncBatchNorm2d,
    SwitchableBatchNorm2d,
    can_slim,
    slim_layer_,
    unslim_layer_,
)
from mmmutual.layers.attention import SlimMultiheadAttention, SlimMultiScaleDeformableAttention, SlimWindowMSA
from mmmutual.layers.stock_convs import (
    SlimConv2dAdaptivePadding,
    SlimConvAWS2d,
    SlimDeformConv2dPack,
    SlimModulatedDeformConv2dPack,
    SlimSAConv2d,
)
from mmmutual.layers.stock_norms import SlimFrozenBatchNorm2d, SlimL2Norm

WIDTHS = (1.0, 0.5)
UNCOUNTED = ('_known_ready', '_forwards')  # what a slimmable layer notes for itself, swapped or not
ONE, TWO = (Segment(16),), (Segment(8, 4), Segment(8, 4))


def l2_norm():
    """With weights, which mmdet leaves to ``init_weights``."""
    norm = L2Norm(16)
    nn.init.ones_(norm.weight)
    return norm


KINDS = {
    'conv': (lambda: nn.Conv2d(16, 16, 3), SlimConv2d, (TWO, TWO)),
    'conv of mmcv': (lambda: wrappers.Conv2d(16, 16, 3, bias=False), SlimConv2d, (ONE, (Segment.full(16),))),
    'grouped': (lambda: nn.Conv2d(16, 16, 3, groups=4), SlimConv2d, (TWO, None)),
    'standardised': (lambda: ConvWS2d(16, 16, 3), SlimConvWS2d, (ONE, ONE)),
    'adaptive padding': (lambda: Conv2dAdaptivePadding(16, 16, 3), SlimConv2dAdaptivePadding, (TWO, TWO)),
    'adaptive standardisation': (lambda: ConvAWS2d(16, 16, 3), SlimConvAWS2d, (TWO, ONE)),
    'switchable': (lambda: SAConv2d(16, 16, 3, padding=1, use_deform=True), SlimSAConv2d, (ONE, TWO)),
    'deformable': (lambda: DeformConv2dPack(16, 16, 3, groups=4), SlimDeformConv2dPack, (TWO, None)),
    'modulated': (lambda: ModulatedDeformConv2dPack(16, 16, 3), SlimModulatedDeformConv2dPack, (TWO, TWO)),
    'transposed': (lambda: nn.ConvTranspose2d(16, 16, 3), SlimConvTranspose2d, (TWO, TWO)),
    'linear': (lambda: nn.Linear(16, 16), SlimLinear, (TWO, TWO)),
    'batch norm': (lambda: nn.BatchNorm2d(16), SlimBatchNorm2d, (TWO, None)),
    'batch norm without affine': (lambda: nn.BatchNorm2d(16, affine=False), SlimBatchNorm2d, (ONE, None)),
    'batch norm without statistics': (
        lambda: nn.BatchNorm2d(16, track_running_stats=False), SlimBatchNorm2d, (ONE, None)
    ),
    'sync batch norm': (lambda: nn.SyncBatchNorm(16), SlimSyncBatchNorm2d, (None, None)),
    'sync batch norm of mmengine': (lambda: SyncBatchNorm(16), SlimSyncBatchNorm2d, (TWO, None)),
    'group norm': (lambda: nn.GroupNorm(4, 16), SlimGroupNorm, (ONE, None)),
    'group norm of segments': (lambda: nn.GroupNorm(4, 16), SlimGroupNorm, (TWO, None)),
    'layer norm': (lambda: nn.LayerNorm(16), SlimLayerNorm, (TWO, None)),
    'layer norm without affine': (lambda: nn.LayerNorm(16, elementwise_affine=False), SlimLayerNorm, (ONE, None)),
    'attention': (lambda: nn.MultiheadAttention(16, 4), SlimMultiheadAttention, (TWO, TWO)),
    'attention without bias': (lambda: nn.MultiheadAttention(16, 2, bias=False), SlimMultiheadAttention, (ONE, ONE)),
    'window attention': (lambda: WindowMSA(16, 4, (4, 4)), SlimWindowMSA, (TWO, TWO)),
    'deformable attention': (
        lambda: MultiScaleDeformableAttention(16, 4, 1, batch_first=True), SlimMultiScaleDeformableAttention, (ONE, ONE)
    ),
    'sine encoding': (lambda: SinePositionalEncoding(8), SlimSinePositionalEncoding, ((), TWO)),
    'frozen batch norm': (lambda: FrozenBatchNorm2d(16), SlimFrozenBatchNorm2d, (TWO, None)),
    'L2 norm': (l2_norm, SlimL2Norm, (TWO, None)),
    'slimmable conv': (lambda: SlimConv2d(16, 16, 3, slim_out=False), SlimConv2d, (ONE, ONE)),
    'slimmable batch norm': (lambda: SlimBatchNorm2d(16, widths=(1.0, 0.7)), SlimBatchNorm2d, (TWO, None)),
    'switchable batch norm': (lambda: SwitchableBatchNorm2d(16), SwitchableBatchNorm2d, (TWO, None)),
}  # fmt: skip


def contents(layer):
    """``vars``, with the identity of each object in it; containers one by one."""
    state = {}
    for name, value in vars(layer).items():
        if isinstance(value, (dict, OrderedDict)):
            value = [(key, id(item)) for key, item in value.items()]
        elif isinstance(value, set):
            value = sorted(value)
        else:
            value = id(value)
        state[name] = value
    return list(state.items())


def call(layer, x):
    """The output for a map (N, C, 4, 4), or for its tokens (N, 16, C)."""
    tokens = x.flatten(2).transpose(1, 2)
    if isinstance(layer, (nn.Linear, nn.LayerNorm, WindowMSA)):
        return layer(tokens)
    if isinstance(layer, nn.MultiheadAttention):
        return layer(tokens, tokens, tokens)[0]
    if isinstance(layer, MultiScaleDeformableAttention):
        places = dict(spatial_shapes=x.new_tensor([[4, 4]]).long(), level_start_index=x.new_tensor([0]).long())
        return layer(tokens, reference_points=torch.rand(len(x), 16, 1, 2, device=x.device), **places)
    return layer(None, x) + x.mean() if isinstance(layer, SinePositionalEncoding) else layer(x)


def use(layer):
    """Train a step at each width, and load a checkpoint that has further widths."""
    parameters = list(layer.parameters())
    for width in WIDTHS:
        with mmmutual.use_width(layer, width):
            x = torch.rand(2, 16 if width == 1.0 else 8, 4, 4, requires_grad=True)
            call(layer, x).square().sum().backward()
    if parameters:
        torch.optim.SGD(parameters, lr=0.1).step()
    for parameter in parameters:
        parameter.grad = None
    state = layer.state_dict()
    for name in [name for name in state if name.endswith('_at_0_5')]:
        state[name.replace('_at_0_5', '_at_0_3')] = state[name].clone()
    layer.load_state_dict(state)
    mmmutual.set_width(layer, 0.5)


@pytest.mark.parametrize('name', KINDS)
def test_undo_restores_a_layer_exactly(name):
    build, kind, (inputs, outputs) = KINDS[name]
    layer = build()
    layer.own = 'an attribute of others'
    layer.register_buffer('counter', torch.ones(1), persistent=False)
    stock, before, was = type(layer), contents(layer), copy.deepcopy(layer)
    slimmable = set(vars(layer)) & {'widths', 'in_segments'}
    slim_layer_(layer, WIDTHS, inputs, outputs)
    assert type(layer) is kind and str(layer) and all(map(torch.equal, layer.parameters(), was.parameters()))
    assert getattr(layer, 'in_segments', None) == inputs or getattr(layer, 'segments', None) == inputs
    assert not slimmable or set(vars(layer)) - set(vars(was)) - {'declared_widths'} == {'_swapped'}
    use(layer)
    unslim_layer_(layer)
    assert type(layer) is stock
    vars(layer).pop('width' if slimmable else '', None)
    after = contents(layer)
    if slimmable:
        before, after = ([(key, value) for key, value in each if key not in UNCOUNTED] for each in (before, after))
    assert after == before
    assert set(layer.state_dict()) == set(build().state_dict())


def test_each_swap_is_undone_by_itself():
    layer = nn.BatchNorm2d(16)
    slim_layer_(layer, (1.0, 0.5), TWO)
    slim_layer_(layer, (1.0, 0.75), ONE)
    assert layer.widths == (1.0, 0.75, 0.5) and layer.segments == ONE
    unslim_layer_(layer)
    assert type(layer) is SlimBatchNorm2d and layer.widths == (1.0, 0.5) and layer.segments == TWO
    assert not any('0_75' in name for name in layer.state_dict())
    unslim_layer_(layer)
    assert type(layer) is nn.BatchNorm2d and 'widths' not in vars(layer)
    unslim_layer_(layer)
    assert type(layer) is nn.BatchNorm2d


def test_what_others_changed_stays_after_undo():
    layer = nn.BatchNorm2d(16)
    slim_layer_(layer, WIDTHS)
    layer.eval().double().register_forward_hook(lambda *args: None)
    layer.weight.requires_grad_(False)
    unslim_layer_(layer)
    assert not layer.training and layer._forward_hooks and layer.weight.dtype == torch.float64
    assert not layer.weight.requires_grad


def test_outputs_decide_whether_a_layer_slims():
    for layer, count in ((nn.Conv2d(16, 16, 1), 16), (nn.Conv2d(16, 16, 1, groups=16), 8), (nn.Linear(16, 16), 16)):
        full = (Segment.full(8),) * 2
        slim_layer_(layer, WIDTHS, outputs=full)
        assert layer.slim_out == (count == 8) and layer.out_segments == full
        mmmutual.set_width(layer, 0.5)
        x = torch.rand(2, 8) if isinstance(layer, nn.Linear) else torch.rand(2, 8, 4, 4)
        assert layer(x).size(1) == count
    slim_layer_(again := SlimConv2d(8, 32, 1, slim_out=False), WIDTHS, outputs=[Segment(32)])
    assert again.slim_out
    slim_layer_(kept := SlimConv2d(8, 32, 1, slim_out=False), WIDTHS)
    assert not kept.slim_out


def test_segments_that_do_not_fit_leave_the_layer_as_it_was():
    for layer, inputs in (
        (nn.Conv2d(16, 8, 1), ONE * 2),
        (nn.GroupNorm(4, 16), (Segment(8, 2), Segment(8, 2))),
        (nn.BatchNorm2d(8), ONE),
        (nn.LayerNorm(8), ONE),
        (nn.MultiheadAttention(8, 2), ONE),
    ):
        kind, before = type(layer), contents(layer)
        with pytest.raises(ValueError, match='segments must add up to|must divide into whole groups'):
            slim_layer_(layer, WIDTHS, inputs)
        assert type(layer) is kind and contents(layer) == before


def test_a_switchable_batch_norm_gets_parameters_for_new_widths():
    norm = SwitchableBatchNorm2d(16)
    slim_layer_(norm, WIDTHS)
    assert 'weight_at_0_5' in dict(norm.named_parameters())
    unslim_layer_(norm)
    assert set(norm.state_dict()) == set(nn.BatchNorm2d(16).state_dict())


def test_other_layers_have_no_counterpart():
    assert not can_slim(ModulatedDeformConv2dPack(8, 8, 3, deform_groups=2))
    with pytest.raises(ValueError, match='InstanceNorm2d has no slimmable counterpart; these have one: .*Conv2d'):
        slim_layer_(nn.InstanceNorm2d(8), WIDTHS)
