"""Optimizers, gradients and averaged copies get the order of their model; parameters stay the same objects."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

import mmmutual
from mmmutual.slimming import order_channels_, plan_slimming
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import randomize
from tests.support.toy_detector import CHANNELS, Net, between, conv

IMAGES = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network() -> Net:
    model = between(
        lambda net, x: net.deep(net.norm(x)), norm=nn.BatchNorm2d(CHANNELS), deep=conv(groups=CHANNELS)
    ).double()
    randomize(model)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """With fixed statistics: a bias before a batch norm has a gradient of rounding alone, which Adam scales up."""
    optimizer.zero_grad()
    model.eval()(IMAGES).square().sum().backward()
    optimizer.step()


class Adafactor(torch.optim.Optimizer):
    """Keeps a mean of the squared gradient over the inputs instead of the whole."""

    def __init__(self, parameters, nested: bool = False) -> None:
        super().__init__(parameters, dict(lr=1e-3))
        self.nested = nested

    def step(self):
        for parameter in self.param_groups[0]['params']:
            row = parameter.grad.flatten(1).square().mean(1) if parameter.dim() > 1 else parameter.grad.square()
            self.state[parameter].update(rows=[row] if self.nested else row, step=torch.tensor(1.0))
            parameter.data -= 1e-3 * parameter.grad


OPTIMIZERS = {
    'SGD': lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.9),
    'AdamW': lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1),
    'amsgrad': lambda parameters: torch.optim.Adam(parameters, lr=1e-3, amsgrad=True),
}


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_a_step_after_an_order_is_the_step_in_that_order(kind):
    models = [network(), network()]
    optimizers = [OPTIMIZERS[kind](model.parameters()) for model in models]
    for model, optimizer in zip(models, optimizers):
        step(model, optimizer)
    plan = plan_slimming(models[0], 'detector')
    order = order_channels_(models[0], plan, optimizer=optimizers[0])
    for model, optimizer in zip(models, optimizers):
        step(model, optimizer)
    order.permute_(models[1])
    for (name, ours), theirs in zip(models[0].state_dict().items(), models[1].state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f'{name}: {m}')
    for parameter, other in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-9, atol=1e-9)


def test_gradients_are_ordered_with_their_parameters():
    model = network()
    for parameter in model.parameters():
        parameter.grad = 2 * parameter.detach()
    order_channels_(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, 2 * parameter), name


@pytest.mark.parametrize('nested', [False, True])
def test_a_state_of_another_shape_is_refused(nested):
    model = network()
    optimizer = Adafactor(model.parameters(), nested)
    step(model, optimizer)
    before, states = copy.deepcopy(model.state_dict()), copy.deepcopy(list(optimizer.state.values()))
    with pytest.raises(
        ValueError, match=r'Adafactor keeps rows of backbone.weight in the shape \(32,\) and not \(32, 3'
    ):
        order_channels_(model, optimizer=optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for state, former in zip(optimizer.state.values(), states):
        assert all(map(torch.equal, tensors_in(state), tensors_in(former)))


def test_an_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match='optimizer must be one of the parameters of the model, but the SGD has none of them: pass '
    ):
        order_channels_(network(), optimizer=optimizer)


def test_averages_are_ordered_in_the_same_way():
    model = network()
    average = ExponentialMovingAverage(model, update_buffers=True)
    average.module.first.weight.data.neg_()  # an average differs, and its channels would have another order
    expected = copy.deepcopy(model)
    order = order_channels_(model, plan_slimming(model, 'detector'), averages=[average.module])
    order.permute_(expected)
    assert torch.equal(average.module.first.weight, -model.first.weight)
    assert torch.equal(expected.first.weight, model.first.weight)
    assert torch.equal(average.module.norm.running_mean, model.norm.running_mean)


def test_what_is_not_a_copy_is_refused():
    model = network()
    before = copy.deepcopy(model.state_dict())
    text = 'is not a copy of the model that was planned: it has no .* with 32 channels in dimension .*ema_model.module'
    for other in (ExponentialMovingAverage(model), between(lambda net, x: x), Net(None, first=conv(16, 16))):
        with pytest.raises(ValueError, match=f'{type(other).__name__} {text}'):
            order_channels_(model, plan_slimming(model, 'detector'), averages=[other])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_model_is_otherwise_as_before():
    """Parameters stay the same objects of the same memory format, frozen ones frozen, each part in its mode."""
    model = network().train()
    model.norm.eval()
    model.backbone.requires_grad_(False)
    model.first.to(memory_format=torch.channels_last)
    parameters, buffers = list(model.parameters()), list(model.buffers())
    strides, modes = [each.stride() for each in parameters], [module.training for module in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    order_channels_(model, plan_slimming(model, 'detector'))
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), parameters))
    assert all(ours is theirs for ours, theirs in zip(model.buffers(), buffers))
    assert [each.stride() for each in model.parameters()] == strides
    assert [module.training for module in model.modules()] == modes
    assert not model.backbone.weight.requires_grad and model.first.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_at_a_narrow_width_is_ordered_as_a_whole():
    models = [network(), network()]
    for model in models:
        mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    mmmutual.set_width(models[0], 0.5)
    for model in models:
        order_channels_(model)
    assert mmmutual.get_width(models[0]) == 0.5
    assert all(torch.equal(value, models[1].state_dict()[name]) for name, value in models[0].state_dict().items())


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16])
def test_half_precision(kind):
    model = network()
    order = order_channels_(copy.deepcopy(model.to(kind).float()), plan=None)
    expected = copy.deepcopy(model).to(kind)
    order.permute_(expected)
    half = model.to(kind)
    order_channels_(half)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in half.state_dict().items())
