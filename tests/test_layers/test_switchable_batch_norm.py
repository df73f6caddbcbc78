import copy

import pytest
import torch
from mmcv.cnn import build_norm_layer
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

import mmmutual
from mmmutual.layers import SlimBatchNorm2d, SwitchableBatchNorm2d, switchable_batch_norm
from mmmutual.models import SlimmableResNet

WIDTHS = (1.0, 0.5, 0.25)


def random_norm(widths=WIDTHS, channels=32) -> SwitchableBatchNorm2d:
    """A norm whose every width has parameters and statistics of its own."""
    norm = SwitchableBatchNorm2d(channels, widths=widths)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter)
    for width in widths:
        norm.set_statistics(width, torch.randn(channels), torch.rand(channels) + 0.5)
    return norm


def stock_norm(norm, width) -> nn.BatchNorm2d:
    """The batch norm that a width is."""
    key = '' if width == 1.0 else f'_at_{width:g}'.replace('.', '_')
    stock = nn.BatchNorm2d(int(norm.num_features * width))
    for name, value in stock.state_dict().items():
        own = norm.state_dict()[name + key]
        value.copy_(own[: len(value)] if own.dim() else own)
    return stock


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('width', WIDTHS)
def test_a_width_is_a_batch_norm_of_its_own(width, training):
    norm = random_norm()
    stock = stock_norm(norm, width).train(training)
    mmmutual.set_width(norm.train(training), width)
    x = torch.randn(4, stock.num_features, 5, 5)
    ours, expected = norm(x), stock(x)
    assert torch.equal(ours, expected)
    (ours**2).sum().backward(), (expected**2).sum().backward()
    for (name, value), own in zip(stock.named_parameters(), norm.affine_parameters(width)):
        assert torch.equal(own.grad[: stock.num_features], value.grad), name
    others = {name for name, parameter in norm.named_parameters() if parameter.grad is None}
    assert len(others) == 2 * len(WIDTHS) - 2
    assert all(torch.equal(value, other) for value, other in zip(stock_norm(norm, width).buffers(), stock.buffers()))


def test_built_by_norm_cfg_in_a_backbone():
    name, layer = build_norm_layer(dict(type='SwitchableBN', widths=WIDTHS, requires_grad=False), 32, postfix=1)
    assert (name, type(layer)) == ('bn1', SwitchableBatchNorm2d)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    backbone = SlimmableResNet(18, WIDTHS, norm_cfg=dict(type='SwitchableBN'))
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(type(layer), layer.widths) for layer in norms} == {(SwitchableBatchNorm2d, WIDTHS)}
    mmmutual.set_width(backbone, 0.5)
    sum(level.sum() for level in backbone(torch.rand(2, 3, 32, 32))).backward()


def test_without_affine_parameters():
    norm, stock = SwitchableBatchNorm2d(32, widths=WIDTHS, affine=False), nn.BatchNorm2d(16, affine=False)
    mmmutual.set_width(norm, 0.5)
    x = torch.randn(4, 16, 3, 3)
    assert not list(norm.parameters())
    assert torch.equal(norm(x), stock(x))


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
@pytest.mark.parametrize('kind', [nn.BatchNorm2d, SlimBatchNorm2d])
def test_shared_parameters_of_a_checkpoint_become_each_widths_own(kind, load):
    """A stock checkpoint leaves narrow statistics to be found; one of SlimBN brings them, of widths too that are new."""
    source = kind(32) if kind is nn.BatchNorm2d else kind(32, widths=(1.0, 0.75, 0.5))
    nn.init.uniform_(source.weight)
    nn.init.uniform_(source.bias)
    if kind is SlimBatchNorm2d:
        for width in source.widths:
            source.set_statistics(width, torch.randn(32), torch.rand(32) + 0.5)
    target = nn.Sequential(random_norm())
    target[0].requires_grad_(False)
    load(target, nn.Sequential(source).state_dict())
    for width in target[0].widths:
        for own, shared in zip(target[0].affine_parameters(width), (source.weight, source.bias)):
            assert torch.equal(own, shared) and own is not shared and not own.requires_grad
    expected = (1.0,) if kind is nn.BatchNorm2d else (1.0, 0.75, 0.5)
    assert tuple(width for width in target[0].widths if target[0].is_ready(width)) == expected


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_its_own_checkpoint_and_a_deep_copy(load):
    source = nn.Sequential(random_norm(widths=(1.0, 0.75, 0.5)))
    target = nn.Sequential(SwitchableBatchNorm2d(32, widths=(1.0, 0.5)))
    load(target, source.state_dict())
    for twin in (target, copy.deepcopy(source)):
        assert twin.state_dict().keys() == source.state_dict().keys()
        assert all(torch.equal(value, twin.state_dict()[name]) for name, value in source.state_dict().items())


def test_width_one_is_missed_where_a_checkpoint_lacks_it():
    norm = random_norm()
    state = {name: value for name, value in norm.state_dict().items() if not name.startswith(('weight', 'bias'))}
    assert set(norm.load_state_dict(state, strict=False).missing_keys) == set(dict(norm.named_parameters()))


def test_a_new_width_cannot_be_calibrated():
    with pytest.raises(ValueError, match=r'width 0.4 has no weight and bias:.* widths \[1.0, 0.5, 0.25\]'):
        random_norm().add_width(0.4)


def test_every_width_gets_a_gradient_in_distributed_training(monkeypatch):
    """Zero where it is not active; outputs do not change."""
    norm = random_norm()
    mmmutual.set_width(norm, 0.5)
    x = torch.randn(4, 16, 3, 3)
    alone = norm(x)
    monkeypatch.setattr(switchable_batch_norm, 'get_world_size', lambda: 2)
    together = norm(x)
    assert torch.equal(alone, together)
    (together**2).sum().backward()
    for name, parameter in norm.named_parameters():
        assert (parameter.grad == 0).all() == ('0_5' not in name), name
