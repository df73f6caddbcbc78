import pytest
import torch
from mmdet.models.necks import FPN

import mmmutual
from mmmutual import SlimmableFPN
from mmmutual.layers import SlimBatchNorm2d
from tests.support.narrow import assert_same_gradients, carry_weights

CHANNELS = [32, 64, 128, 256]


def levels(width: float, dtype=torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(2, int(c * width), 32 // 2**i, 32 // 2**i, dtype=dtype) for i, c in enumerate(CHANNELS)]


@pytest.mark.parametrize('extra', [False, 'on_input', 'on_lateral', 'on_output'])
def test_full_width_is_stock_bit_for_bit(extra):
    slim, stock = (kind(CHANNELS, 16, num_outs=6, add_extra_convs=extra) for kind in (SlimmableFPN, FPN))
    slim.load_state_dict(stock.state_dict())
    for model in (slim, stock):
        sum(out.square().sum() for out in model(levels(1.0))).backward()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(slim(levels(1.0)), stock(levels(1.0))))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(slim.parameters(), stock.parameters()))


@pytest.mark.parametrize('extra', [False, 'on_input', 'on_output'])
@pytest.mark.parametrize('width', [0.75, 0.5, 0.25])
def test_narrow_inputs_give_full_outputs_of_a_narrow_stock_fpn(width, extra):
    slim = SlimmableFPN(CHANNELS, 16, num_outs=5, start_level=1, add_extra_convs=extra).double()
    narrow = FPN([int(c * width) for c in CHANNELS], 16, num_outs=5, start_level=1, add_extra_convs=extra).double()
    mmmutual.set_width(slim, width)
    carry_weights(slim, narrow)
    outs = [model(levels(width, torch.float64)) for model in (slim, narrow)]
    for ours, theirs in zip(*outs):
        assert ours.shape[1] == 16
        torch.testing.assert_close(ours, theirs)
    for out in outs:
        sum(level.square().sum() for level in out).backward()
    assert_same_gradients(slim, narrow)


@pytest.mark.parametrize('extra', [False, 'on_input', 'on_output'])
@pytest.mark.parametrize('width', [0.75, 0.5, 0.25])
def test_with_slim_out_it_is_a_narrow_stock_fpn(width, extra):
    options = dict(num_outs=5, start_level=1, add_extra_convs=extra)
    slim = SlimmableFPN(CHANNELS, 32, slim_out=True, norm_cfg=dict(type='GN', num_groups=4), **options).double()
    norm_cfg = dict(type='GN', num_groups=int(4 * width))
    narrow = FPN([int(c * width) for c in CHANNELS], int(32 * width), norm_cfg=norm_cfg, **options).double()
    mmmutual.set_width(slim, width)
    carry_weights(slim, narrow)
    for ours, theirs in zip(*(model(levels(width, torch.float64)) for model in (slim, narrow))):
        torch.testing.assert_close(ours, theirs)


def test_batch_norms_keep_statistics_for_each_width():
    with pytest.raises(
        ValueError, match='SlimmableFPN has batch norms, which keep statistics for each width: pass widths'
    ):
        SlimmableFPN(CHANNELS, 16, num_outs=4, norm_cfg=dict(type='BN'))
    neck = SlimmableFPN(CHANNELS, 16, num_outs=4, norm_cfg=dict(type='BN'), widths=(1.0, 0.5))
    norms = [layer for layer in neck.modules() if isinstance(layer, SlimBatchNorm2d)]
    mmmutual.set_width(neck, 0.5)
    neck(levels(0.5))
    assert len(norms) == 8
    assert all(norm.is_ready(0.5) and (norm.running_mean == 0).all() for norm in norms)


def test_options_that_cannot_slim():
    with pytest.raises(
        ValueError,
        match='SlimmableFPN cannot be made slimmable behind a slimmable backbone: ModulatedDeformConv2dPack needs all',
    ):
        SlimmableFPN(CHANNELS, 16, num_outs=4, conv_cfg=dict(type='DCNv2', deform_groups=2))
