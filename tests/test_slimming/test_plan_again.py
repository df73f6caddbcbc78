"""A plan is the same whatever the weights are, and planning again or in vain changes nothing."""

import numpy as np
import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import SlimConv2d
from mmmutual.slimming import plan_slimming

WIDTHS = (1.0, 0.5)


class Between(nn.Module):
    """Three convolutions with an operation behind the first."""

    def __init__(self, operation):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 16, 1)
        self.operation = operation

    def forward(self, x):
        return self.c(self.b(self.operation(self.a(x))))


def slim_out(plan):
    return {layer.name for layer in plan.layers if layer.slims_out}


def test_weights_of_zero_hide_nothing():
    """The division by the number of channels must be seen in zeros as well."""
    model = Between(lambda y: y * y.size(1) ** -0.5)
    expected = slim_out(plan_slimming(model))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert slim_out(plan_slimming(model)) == expected == {'b', 'c'}


class Branching(nn.Module):
    """Runs more, or gives more, where there are many channels."""

    def __init__(self, outputs):
        super().__init__()
        self.a, self.b, self.c, self.outputs = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1), outputs

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        more = y.size(1) >= 64
        if self.outputs:
            return [z, self.b(y)] if more else [z]
        return z + 0 * self.c(y) if more else z


@pytest.mark.parametrize('outputs', [False, True])
def test_a_narrow_network_that_runs_less_is_no_narrow_network(outputs):
    with pytest.raises(
        ValueError, match=r'Branching cannot be made slimmable: a narrow network would .* Choose another backbone'
    ):
        plan_slimming(Branching(outputs))


def test_outputs_that_depend_on_the_number_of_channels():
    class Counting(Between):
        def forward(self, x):
            return self.operation(self.b(self.a(x)))

    plan = plan_slimming(Counting(lambda y: y / y.size(1)))
    assert slim_out(plan) == {'a'}
    assert plan.reasons == {'a narrow network would give other outputs': 0}


def test_a_run_ends_where_channels_stand_more_often():
    class Repeating(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Conv2d(3, 32, 1),
                nn.Conv2d(3, 32, 1),
                nn.Conv2d(64, 16, 1),
                nn.Conv2d(96, 16, 1),
            )

        def forward(self, x):
            a, b = self.a(x), self.b(x)
            return self.c(torch.cat((a, b), 1)), self.d(torch.cat((a.repeat_interleave(2, 1), b), 1))

    plans = {layer.name: layer for layer in plan_slimming(Repeating()).layers}
    assert [tuple(segment) for segment in plans['c'].inputs] == [(32, 8), (32, 8)]
    assert [tuple(segment) for segment in plans['d'].inputs] == [(64, 16), (32, 8)]


def test_channels_before_a_group_norm_are_whole_groups():
    model = Between(nn.Identity())
    model.a, model.operation, model.b = nn.Conv2d(3, 96, 1), nn.GroupNorm(8, 96), nn.Conv2d(96, 64, 1)
    plans = {layer.name: layer for layer in plan_slimming(model).layers}
    assert [tuple(segment) for segment in plans['a'].outputs] == [(96, 24)]


def test_channels_in_another_order_have_a_reason():
    plan = plan_slimming(Between(lambda y: y.reshape(1, 2, 32, 8 * 8, -1).transpose(1, 2).reshape(1, 64, *y.shape[2:])))
    assert slim_out(plan) == {'b', 'c'}
    assert plan.reasons.keys() == {'no run of them is long enough to be cut'}


def test_a_layer_whose_error_the_model_catches():
    def forgiving(y):
        try:
            model.other(y[:, :5])
        except RuntimeError:
            return y
        raise AssertionError

    model = Between(forgiving)
    model.other = nn.Conv2d(64, 64, 1)
    assert 'b' in slim_out(plan_slimming(model))


def test_random_numbers_go_on_as_without_a_plan():
    model = Between(lambda y: y + np.random.rand() + 0 * torch.rand(1))
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(3), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    plan_slimming(model)
    assert torch.equal(torch.rand(3), expected[0]) and np.random.rand() == expected[1]


def test_undo_undoes_what_this_plan_did():
    model = Between(nn.functional.relu)
    mmmutual.make_slimmable_(model, WIDTHS)
    plan = plan_slimming(model)
    plan.undo_()
    assert type(model.a) is SlimConv2d
    plan.apply_(WIDTHS)
    plan.apply_(WIDTHS)
    plan.undo_()
    assert type(model.a) is SlimConv2d
    mmmutual.undo_slimmable_(model)
    assert type(model.a) is nn.Conv2d


def test_a_failing_application_leaves_the_one_before(monkeypatch):
    model = Between(nn.functional.relu)
    plan = plan_slimming(model)
    plan.apply_(WIDTHS)
    monkeypatch.setattr(mmmutual.slimming.plan, 'slim_layer_', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plan.apply_(WIDTHS)
    assert type(model.a) is SlimConv2d


def test_groups_name_writers_followers_and_readers():
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), Between(nn.functional.relu))
    model[2].a = nn.Conv2d(64, 64, 1)
    first = plan_slimming(model).groups[0]
    assert (first.channels, first.divisor, [part.layer for part in first.writers]) == (64, 8, ['0'])
    assert [tuple(part) for part in first.followers] == [('1', 0, 64)]
    assert [tuple(part) for part in first.readers] == [('2.a', 0, 64)]
