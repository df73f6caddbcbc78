"""Detectors with transformers, in either scope: stock at width 1.0, and below the masked full one."""

import copy
import pickle

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.model import ExponentialMovingAverage
from torch import nn

import mmmutual
from mmmutual.deploy import narrow_
from mmmutual.evaluation import count_parameters
from mmmutual.layers import Slimmable, get_width
from mmmutual.slimming import order_channels_, plan_slimming
from mmmutual.slimming.dry_run import run_whole, untouched
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import assert_narrow_is_masked, randomize
from tests.support.tiny_transformers import BACKBONES, DETECTORS, dino, mask2former, pvt, swin_of_wide_heads

WIDTHS = (1.0, 0.6, 0.5, 0.25)
IMAGE = 64
CASES = [(make, scope) for make in BACKBONES for scope in ('backbone', 'detector')]
CASES += [(make, 'detector') for make in DETECTORS] + [(mask2former, 'backbone')]
every_case = pytest.mark.parametrize(
    ('make', 'scope'), CASES, ids=lambda value: value if isinstance(value, str) else value.__name__
)


def build(make) -> nn.Module:
    """In double precision, so that rounding chooses among no equal proposals."""
    model = MODELS.build(make())
    randomize(model)
    return model.eval()


def run(model: nn.Module) -> object:
    return run_whole(model, IMAGE)


@torch.no_grad()
def outputs(model: nn.Module) -> list[torch.Tensor]:
    with untouched(model, get_width(model) if any(isinstance(each, Slimmable) for each in model.modules()) else 1.0):
        return [*tensors_in(run(model))]


def losses(model: nn.Module) -> list[torch.Tensor]:
    """All losses of a training step with all gradients, which are left in the model."""
    torch.manual_seed(0)
    data = demo_mm_inputs(2, [[3, IMAGE, IMAGE]] * 2, with_mask=True, num_items=[2, 3])
    model.train().zero_grad()
    torch.manual_seed(0)
    found = model(**model.data_preprocessor(data, True), mode='loss')
    model.parse_losses(found)[0].backward()
    return [*tensors_in(found)]


@every_case
@pytest.mark.integration
def test_full_width_is_stock_bit_for_bit(make, scope):
    stock = MODELS.build(make())
    stock.init_weights()
    slim = copy.deepcopy(stock)
    plan = plan_slimming(slim, scope)
    classes = [type(module) for module in slim.modules()]
    plan.apply_(WIDTHS)
    assert set(stock.state_dict()) == {name for name in slim.state_dict() if '_at_' not in name}
    assert all(map(torch.equal, outputs(slim.eval()), outputs(stock.eval())))
    assert all(map(torch.equal, losses(slim), losses(stock)))
    for (name, ours), theirs in zip(slim.named_parameters(), stock.parameters()):
        assert (ours.grad is None) == (theirs.grad is None) and (
            ours.grad is None or torch.equal(ours.grad, theirs.grad)
        ), name
    plan.undo_()
    assert [type(module) for module in slim.modules()] == classes
    assert not any('_swapped' in vars(module) or isinstance(module, Slimmable) for module in slim.modules())


@every_case
@pytest.mark.integration
def test_a_narrow_detector_is_the_masked_full_one(make, scope):
    """Also after its channels were ordered, which leaves the full outputs."""
    model = build(make).double()
    before = outputs(model)
    plan = plan_slimming(model, scope)
    assert scope == 'backbone' or plan.share > 0.99, str(plan)
    order = order_channels_(model, plan)
    assert any(not torch.equal(index, index.sort().values) for dims in order.places.values() for index in dims.values())
    for ours, theirs in zip(outputs(model), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * theirs.abs().max().item())
    plan.apply_(WIDTHS)
    assert_narrow_is_masked(model, run, WIDTHS)


@every_case
@pytest.mark.integration
def test_the_narrow_stock_detector(make, scope):
    """It computes the same, and has as many parameters as are counted."""
    model = build(make)
    plan = plan_slimming(model, scope)
    plan.apply_(WIDTHS)
    again = plan_slimming(model, scope)
    assert again.groups == plan.groups and again.parameters == plan.parameters
    for width in (0.6, 0.25):
        narrow = copy.deepcopy(model)
        narrow_(narrow, width, trained=False)
        assert not any(isinstance(module, Slimmable) for module in narrow.modules())
        for norm in model.modules():
            if hasattr(norm, 'prepare_width'):
                norm.set_statistics(width, torch.zeros(norm.num_features), torch.ones(norm.num_features))
        with mmmutual.use_width(model, width):
            assert count_parameters(model) == sum(parameter.numel() for parameter in narrow.parameters())
            for ours, theirs in zip(outputs(model), outputs(narrow), strict=True):
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('make', (*BACKBONES, *DETECTORS), ids=lambda make: make.__name__)
@pytest.mark.integration
def test_training_at_narrow_widths(make):
    """All active parameters get gradients, those that denoise included, and the losses are finite."""
    model = MODELS.build(make())
    model.init_weights()
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    losses(model)
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    for width in WIDTHS[1:]:
        with mmmutual.use_width(model, width):
            found = losses(model)
        assert all(value.isfinite().all() for value in found)
        assert {name for name, value in model.named_parameters() if value.grad is None} <= without
        assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


@pytest.mark.integration
def test_the_labels_to_denoise_have_the_channels_of_the_queries():
    model = MODELS.build(dino())
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    generator = model.dn_query_generator
    with mmmutual.use_width(model, 0.5):
        assert generator.label_embedding.weight.shape[1] == model.query_embedding.weight.shape[1] == 16
        assert generator.embed_dims == 16 and losses(model)
    changed = generator.label_embedding.weight.grad.any(0).nonzero().flatten()
    assert changed.tolist() == [*range(8), *range(16, 24)]  # of two halves, as the position encoding


@pytest.mark.integration
def test_the_last_of_several_swaps_is_undone():
    model = build(swin_of_wide_heads)
    classes = [type(module) for module in model.modules()]
    mmmutual.make_slimmable_(model, WIDTHS)
    with mmmutual.use_width(model, 0.5):
        expected = outputs(model)
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    mmmutual.undo_slimmable_(model)
    with mmmutual.use_width(model, 0.5):
        assert all(map(torch.equal, outputs(model), expected))
    mmmutual.undo_slimmable_(model)
    assert [type(module) for module in model.modules()] == classes


@pytest.mark.integration
@pytest.mark.parametrize('make', [swin_of_wide_heads, pvt, dino], ids=lambda make: make.__name__)
def test_copies_and_averages_of_a_slimmable_detector(make):
    """They slim alike, apart from the detector, and are undone."""
    model = build(make)
    classes = [type(module) for module in model.modules()]
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    for norm in model.modules():
        if hasattr(norm, 'prepare_width'):
            norm.set_statistics(0.5, torch.zeros(norm.num_features), torch.ones(norm.num_features))
    average = ExponentialMovingAverage(model)
    with mmmutual.use_width(model, 0.5):
        expected = outputs(model)
        average.update_parameters(model)
    for copied in (pickle.loads(pickle.dumps(model)), average.module):
        assert get_width(copied) == 1.0 and copied.state_dict().keys() == model.state_dict().keys()
        mmmutual.set_width(copied, 0.5)
        assert all(map(torch.equal, outputs(copied), expected))
        mmmutual.undo_slimmable_(copied)
        assert [type(module) for module in copied.modules()] == classes
    assert get_width(model) == 1.0
