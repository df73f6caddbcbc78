import copy

import pytest
import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import revert_sync_batchnorm
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.optim.swa_utils import update_bn

import mmmutual
from mmmutual.layers import (
    PooledStatistics,
    Segment,
    SlimBatchNorm2d,
    SlimGroupNorm,
    SlimLayerNorm,
    SlimSyncBatchNorm2d,
)

WIDTHS = (1.0, 0.5, 0.25)


def trained(widths=WIDTHS, channels=32) -> SlimBatchNorm2d:
    """A norm that has seen a few batches at each width."""
    torch.manual_seed(0)
    norm = SlimBatchNorm2d(channels, widths=widths)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    for width in norm.widths:
        mmmutual.set_width(norm, width)
        for _ in range(3):
            norm(torch.randn(4, int(channels * width), 5, 5) * 2 + width)
    mmmutual.set_width(norm, 1.0)
    return norm


@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('kind', [SlimBatchNorm2d, SlimSyncBatchNorm2d])
def test_full_width_is_the_stock_norm_bit_for_bit(kind, momentum):
    slim, stock = kind(16, widths=WIDTHS, momentum=momentum), nn.BatchNorm2d(16, momentum=momentum)
    for _ in range(3):
        x = torch.randn(4, 16, 6, 6)
        assert torch.equal(slim(x), stock(x))
    slim.eval(), stock.eval()
    assert torch.equal(slim(x), stock(x))
    for name, value in stock.state_dict().items():
        assert torch.equal(slim.state_dict()[name], value), name


@pytest.mark.parametrize('options', [dict(affine=False), dict(track_running_stats=False)])
def test_stock_options(options):
    slim, stock = SlimBatchNorm2d(16, widths=WIDTHS, **options), nn.BatchNorm2d(16, **options)
    x = torch.randn(4, 16, 6, 6)
    assert torch.equal(slim(x), stock(x))
    assert torch.equal(slim.eval()(x), stock.eval()(x))
    mmmutual.set_width(slim.train(), 0.5)
    assert slim(x[:, :8]).shape == (4, 8, 6, 6)


def test_each_width_has_statistics_of_its_own():
    norm, narrow = trained(), nn.BatchNorm2d(16)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    narrow.load_state_dict(
        {
            'weight': norm.weight[:16],
            'bias': norm.bias[:16],
            'running_mean': norm.running_mean_at_0_5[:16],
            'running_var': norm.running_var_at_0_5[:16],
            'num_batches_tracked': norm.num_batches_tracked_at_0_5,
        }
    )
    mmmutual.set_width(norm, 0.5)
    x = torch.randn(4, 16, 5, 5)
    torch.testing.assert_close(norm(x), narrow(x))
    torch.testing.assert_close(norm.eval()(x), narrow.eval()(x))
    after = norm.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {'running_mean_at_0_5', 'running_var_at_0_5', 'num_batches_tracked_at_0_5'}
    assert norm.num_batches_tracked_at_0_5 == 4
    torch.testing.assert_close(norm.running_mean_at_0_5[:16], narrow.running_mean)
    assert torch.equal(norm.running_mean_at_0_5[16:], before['running_mean_at_0_5'][16:])


def test_all_channels_at_a_narrow_width():
    """A norm behind a shared neck sees all channels at every width."""
    norm = SlimBatchNorm2d(16, widths=WIDTHS)
    mmmutual.set_width(norm, 0.5)
    norm(torch.randn(4, 16, 5, 5) + 3)
    assert (norm.running_mean_at_0_5 > 0.2).all()
    assert (norm.running_mean == 0).all()


def test_a_width_without_statistics_is_an_error_in_evaluation():
    norm = SlimBatchNorm2d(16, widths=WIDTHS).eval()
    norm(torch.randn(1, 16, 4, 4))  # width 1.0 as the stock layer
    mmmutual.set_width(norm, 0.25)
    with pytest.raises(
        ValueError, match=r'width 0.25 has no batch-norm statistics yet: they exist for \[1.0\].*calibrate'
    ):
        norm(torch.randn(1, 8, 4, 4))
    norm.train()(torch.randn(2, 8, 4, 4))
    norm.eval()(torch.randn(1, 8, 4, 4))
    norm.reset_running_stats()
    with pytest.raises(ValueError, match='no batch-norm statistics yet'):
        norm(torch.randn(1, 8, 4, 4))
    assert norm.num_batches_tracked_at_0_25 == 0
    assert (norm.running_var_at_0_25 == 1).all()


@pytest.mark.parametrize('order', [WIDTHS, WIDTHS[::-1]])
def test_the_statistics_of_one_width_are_computed_anew_by_torch(order):
    norm = SlimBatchNorm2d(16, widths=WIDTHS)
    batches = [torch.randn(2, 16, 4, 4) + 3 for _ in range(2)]
    for width in order:
        mmmutual.set_width(norm, width)
        active = Segment(16).active(width)
        torch.optim.swa_utils.update_bn([batch[:, :active] for batch in batches], norm)
    for width in order:
        mean, _, tracked = norm.statistics(width)
        active = Segment(16).active(width)
        expected = torch.stack(batches).mean((0, 1, 3, 4))[:active]
        torch.testing.assert_close(mean[:active], expected)
        assert tracked == 2
    norm.reset_parameters()
    assert all(norm.statistics(width)[2] == 0 for width in order)


def test_too_many_channels():
    with pytest.raises(ValueError, match='input has 32 channels, but SlimBatchNorm2d.*at most 16'):
        SlimBatchNorm2d(16)(torch.rand(2, 32, 4, 4))


def test_a_stock_checkpoint_loads_without_missing_keys_and_forgets_the_narrow_statistics():
    norm, stock = trained(), nn.BatchNorm2d(32)
    stock(torch.randn(4, 32, 5, 5))
    norm.eval()
    mmmutual.set_width(norm, 0.5)
    norm(torch.rand(1, 16, 4, 4))
    assert not norm.load_state_dict(stock.state_dict(), strict=True).missing_keys
    assert torch.equal(norm.running_mean, stock.running_mean)
    with pytest.raises(ValueError, match='width 0.5 has no batch-norm statistics yet'):
        norm(torch.rand(1, 16, 4, 4))


def test_the_way_back_and_a_stock_key_that_is_missing():
    norm, stock = trained(), nn.BatchNorm2d(32)
    result = stock.load_state_dict(norm.state_dict(), strict=False)
    assert not result.missing_keys
    assert torch.equal(stock.running_var, norm.running_var)
    state = stock.state_dict()
    del state['running_mean']
    with pytest.raises(RuntimeError, match='running_mean'):
        norm.load_state_dict(state)


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_widths_in_a_checkpoint_are_adopted(load):
    source = nn.Sequential(trained(widths=(1.0, 0.75, 0.5)))
    target = nn.Sequential(SlimBatchNorm2d(32, widths=(1.0, 0.5)).eval())
    load(target, source.state_dict())
    assert target[0].widths == (1.0, 0.75, 0.5)
    mmmutual.set_width(target, 0.75)
    mmmutual.set_width(source.eval(), 0.75)
    x = torch.rand(1, 24, 4, 4)
    assert torch.equal(target(x), source(x))


def test_a_deep_copy_keeps_statistics_and_is_independent():
    norm = trained()
    twin = copy.deepcopy(norm)
    mmmutual.set_width(norm, 0.5)
    norm(torch.randn(4, 16, 5, 5) + 9)
    assert not torch.equal(norm.running_mean_at_0_5, twin.running_mean_at_0_5)
    assert twin.is_ready(0.5)


@pytest.mark.parametrize(
    ('cfg', 'kind', 'name'),
    [
        (dict(type='SlimBN', widths=WIDTHS, requires_grad=False), SlimBatchNorm2d, 'bn1'),
        (dict(type='SlimSyncBN', widths=WIDTHS), SlimSyncBatchNorm2d, 'bn1'),
        (dict(type='SlimGN', num_groups=8), SlimGroupNorm, 'gn1'),
        (dict(type='SlimLN', eps=1e-6), SlimLayerNorm, 'ln1'),
    ],
)
def test_built_by_norm_cfg_under_the_stock_name(cfg, kind, name):
    built, layer = build_norm_layer(cfg, 32, postfix=1)
    assert (built, type(layer)) == (name, kind)
    assert layer.weight.requires_grad == cfg.get('requires_grad', True)


def test_mmengine_does_not_revert_the_synchronised_norm():
    model = nn.Sequential(SlimSyncBatchNorm2d(16, widths=WIDTHS))
    assert type(revert_sync_batchnorm(model)[0]) is SlimSyncBatchNorm2d


def test_the_synchronised_norm_names_the_group_of_all_processes(tmp_path, monkeypatch):
    """torch's computation asks the group for its backend, so that None is an error."""

    class OnGPU(torch.Tensor):
        is_cuda = True

    calls = []
    monkeypatch.setattr('mmmutual.layers.sync_batch_norm.get_world_size', lambda: 2)
    monkeypatch.setattr('mmmutual.layers.sync_batch_norm.sync_batch_norm', lambda x, *args: calls.append(args) or x)
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    try:
        SlimSyncBatchNorm2d(16)(torch.rand(2, 16, 4, 4).as_subclass(OnGPU))
        assert calls[0][-2:] == (torch.distributed.group.WORLD, 2)
        assert calls[0][-2] is not None
    finally:
        torch.distributed.destroy_process_group()


def test_update_bn_of_one_width_leaves_the_others():
    model = nn.Sequential(SlimBatchNorm2d(16, widths=(1.0, 0.5)))
    batches = [torch.rand(4, 16, 3, 3) for _ in range(2)]
    for width in (1.0, 0.5):
        with mmmutual.use_width(model, width):
            update_bn(batches, model)
    (norm,) = model
    for width in (1.0, 0.5):
        mean, _, tracked = norm.statistics(width)
        assert int(tracked) == 2
        torch.testing.assert_close(mean, torch.cat(batches).mean((0, 2, 3)))
    with mmmutual.use_width(model, 0.5):
        norm.reset_running_stats()
    assert not norm.is_ready(0.5) and int(norm.num_batches_tracked) == 2
    norm.reset_parameters()
    assert int(norm.num_batches_tracked) == 0 and norm.width == 1.0


@pytest.mark.parametrize(('channels', 'groups'), [(32, 8), (16, 4), (8, 2)])
def test_group_norm_keeps_whole_groups(channels, groups):
    slim, narrow = SlimGroupNorm(32, 8), nn.GroupNorm(groups, channels)
    nn.init.uniform_(slim.weight)
    narrow.weight.data = slim.weight.data[:channels]
    x = torch.rand(2, channels, 5, 5)
    assert torch.equal(slim(x), narrow(x))


def test_group_norm_error():
    with pytest.raises(ValueError, match='input has 6 channels, but SlimGroupNorm.*needs a multiple of 4, at most 32'):
        SlimGroupNorm(32, 8)(torch.rand(2, 6, 5, 5))


def test_pooled_statistics_are_those_of_the_concatenation():
    torch.manual_seed(0)
    batches = [torch.randn(n, 6, size, size) * n + n for n, size in ((2, 5), (4, 3), (1, 7))]
    pooled = PooledStatistics()
    for batch in batches:
        pooled.update(batch)
    values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in batches], 1).double()
    mean, var = pooled.finish()
    torch.testing.assert_close(mean, values.mean(1))
    torch.testing.assert_close(var, values.var(1))
    with pytest.raises(ValueError, match='no batch was added'):
        PooledStatistics().finish()
