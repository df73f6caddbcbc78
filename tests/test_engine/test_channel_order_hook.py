"""The hook orders the weights that a training starts from, once, and says so in the log."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch import nn

import mmmutual
from mmmutual.engine import ChannelOrderHook
from mmmutual.engine.hooks import channel_order_hook
from tests.support.masked import randomize
from tests.support.toy_detector import Net, between, conv

STOCK = 'stock.pth'
LEAVES = 'ChannelOrderHook leaves the channels as they are'
GOES_ON = f'{LEAVES}: {STOCK} was trained at several widths, and the training continues from it'


def network(**layers) -> Net:
    model = between(lambda net, x: net.norm(x), **{'norm': nn.BatchNorm2d(32), **layers})
    randomize(model)
    mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    return model


@pytest.fixture
def runner():
    """Makes a runner before its first iteration; ``lines`` is its log."""

    def make(model: nn.Module, load_from: str | None = STOCK, iteration: int = 0) -> SimpleNamespace:
        lines = []
        logger = SimpleNamespace(info=lines.append)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        cfg = dict(load_from=load_from)
        return SimpleNamespace(
            model=model, cfg=cfg, iter=iteration, hooks=[], optim_wrapper=wrapper, logger=logger, lines=lines
        )

    MMLogger.get_instance('mmengine', log_level='ERROR')  # of EMAHook
    return make


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def assert_same(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('importance', ['l1', 'l2', lambda group, layers: torch.arange(group.channels)])
def test_it_orders_stock_weights(importance, runner):
    model = network()
    expected = copy.deepcopy(model)
    mmmutual.order_channels_(expected, importance=importance)
    start = runner(model)
    ChannelOrderHook(importance).before_train(start)
    assert_same(model, expected.state_dict())
    name = importance if isinstance(importance, str) else '<lambda>'
    assert start.lines == [f'ChannelOrderHook ordered 2 channel groups of {STOCK} by the importance {name}']


def test_it_orders_pretrained_weights_of_a_part(runner):
    model = network()
    before = state_of(model)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    start = runner(model, load_from=None)
    HOOKS.build(dict(type='ChannelOrderHook')).before_train(start)
    assert not torch.equal(model.backbone.weight, before['backbone.weight'])
    assert 'of torchvision://resnet18 by' in start.lines[0]


@pytest.mark.parametrize('init_cfg', [None, dict(type='Kaiming', layer='Conv2d')])
def test_random_weights_stay(init_cfg, runner):
    model = network()
    model.backbone.init_cfg = init_cfg
    before, start = state_of(model), runner(model, load_from=None)
    ChannelOrderHook().before_train(start)
    assert_same(model, before)
    assert start.lines == [f'{LEAVES}, since the weights are random']


def test_weights_with_narrow_statistics_stay(runner):
    model = network()
    model.norm.set_statistics(0.5, torch.zeros(32), torch.ones(32))
    before, start = state_of(model), runner(model)
    ChannelOrderHook().before_train(start)
    assert_same(model, before)
    assert start.lines == [GOES_ON]


@pytest.mark.parametrize(
    ('meta', 'stays'),
    [
        (dict(cfg="custom_hooks = [dict(type='MutualLearningHook')]"), True),
        (dict(cfg="custom_hooks = [dict(type='EMAHook')]"), False),
        (dict(), False),
        (None, False),
    ],
)
def test_a_mutual_checkpoint_without_batch_norms_stays(meta, stays, runner):
    model = network(norm=nn.GroupNorm(4, 32))
    before, start, hook = state_of(model), runner(model), ChannelOrderHook()
    hook.after_load_checkpoint(start, dict(meta=meta))
    hook.before_train(start)
    assert torch.equal(model.first.weight, before['first.weight']) == stays
    assert (start.lines == [GOES_ON]) == stays


def test_weights_of_a_part_from_a_mutual_training_without_batch_norms_stay(runner, tmp_path):
    model = network(norm=nn.GroupNorm(4, 32))
    file = str(tmp_path / 'mutual.pth')
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    for cfg, stays in (("custom_hooks = [dict(type='MutualLearningHook')]", True), ('', False)):
        torch.save(dict(meta=dict(cfg=cfg), state_dict=model.state_dict()), file)
        before = state_of(model)
        ChannelOrderHook().before_train(runner(model, load_from=None))
        assert torch.equal(model.first.weight, before['first.weight']) == stays


def test_a_resumed_run_is_not_ordered_again(runner):
    model = network()
    before, start = state_of(model), runner(model, iteration=3)
    ChannelOrderHook().before_train(start)
    assert_same(model, before)
    assert not start.lines


def test_averaged_models_get_the_order_of_the_model(runner):
    model = network()
    start = runner(model)
    start.hooks = [EMAHook()]
    start.hooks[0].before_run(start)  # it copies the model before the weights are loaded
    average = start.hooks[0].ema_model.module
    average.first.weight.data.neg_()
    weight = average.first.weight.clone()
    ChannelOrderHook().before_train(start)
    assert torch.equal(average.first.weight, -model.first.weight)
    assert not torch.equal(average.first.weight, weight)


def test_all_processes_use_the_scores_of_the_first(runner, monkeypatch):
    """As if this were another process, whose sums were rounded in another way."""
    model = network()
    before = state_of(model)
    monkeypatch.setattr(channel_order_hook, 'broadcast', lambda scores: scores.copy_(torch.arange(len(scores))))
    ChannelOrderHook().before_train(runner(model))
    assert torch.equal(model.backbone.weight, before['backbone.weight'].flip(0))


def test_the_model_behind_a_wrapper_is_ordered(runner, monkeypatch):
    model = network()
    before = state_of(model)
    wrapper = nn.Module()
    wrapper.module = model
    monkeypatch.setattr('mmmutual.engine.unwrapped.is_model_wrapper', lambda module: module is wrapper)
    start = runner(model)
    start.model = wrapper
    ChannelOrderHook().before_train(start)
    assert not torch.equal(model.backbone.weight, before['backbone.weight'])


def test_a_model_that_cannot_be_ordered_stops_the_run(runner):
    model = network(auxiliary=conv())
    before, start = state_of(model), runner(model)
    with pytest.raises(ValueError, match='its layer auxiliary .* remove ChannelOrderHook from custom_hooks'):
        ChannelOrderHook().before_train(start)
    assert_same(model, before)
    assert not start.lines


def test_wrong_arguments(runner):
    with pytest.raises(ValueError, match='importance must be a function or one of .*, but got .magnitude.'):
        ChannelOrderHook('magnitude')
    with pytest.raises(TypeError, match='importance must be a name or a function, but got 3'):
        ChannelOrderHook(3)
    with pytest.raises(ValueError, match='the importance broken must return a finite score'):

        def broken(group, layers):
            return torch.zeros(1)

        ChannelOrderHook(broken).before_train(runner(network()))
