"""Private names of upstream packages do what this project needs of them."""

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn

from mmmutual.upstream import coco_ground_truth, counted_once, drop_hooks, parse_losses, update_losses


def test_losses_are_split_off_predictions():
    predictions, losses = [BaseDataElement(), BaseDataElement(loss=dict(loss_cls=torch.tensor(2.0)))], {}
    kept, losses = update_losses(predictions, losses)
    assert kept == predictions[:1]
    assert isinstance(losses['loss_cls'], HistoryBuffer)
    assert parse_losses(losses, 'val') == {'val_loss': 2.0, 'loss_cls': 2.0}


def test_hooks_of_a_copy_are_dropped():
    layer, called = nn.Linear(1, 1), []
    layer.register_forward_pre_hook(lambda *args: called.append('before'))
    layer.register_forward_hook(lambda *args: called.append('after'))
    layer(torch.zeros(1, 1))
    assert called == ['before', 'after']
    drop_hooks(layer)
    layer(torch.zeros(1, 1))
    assert len(called) == 2


def counts_of(wrapper: OptimWrapper) -> tuple[int, ...]:
    return wrapper._accumulative_counts, wrapper._inner_count, wrapper._max_counts, wrapper._remainder_counts


def test_the_passes_of_an_iteration_count_as_one():
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(nn.Identity(), 0, 3)
    values = []
    for iteration in range(3):
        with counted_once(wrapper, 4):
            for _ in range(4):
                wrapper.update_params(weight * 1.0)
                values.append(weight.item())
        assert counts_of(wrapper) == (2, iteration + 1, 3, 1)
    assert values == pytest.approx([1.0] * 7 + [0.0] * 4 + [-1.0]), 'the last step has one iteration only'


@pytest.mark.parametrize('most', [-1, 2])
def test_more_iterations_than_the_maximum_take_their_steps(most):
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0))
    wrapper.initialize_count_status(nn.Identity(), 1, most)
    for _ in range(3):
        with counted_once(wrapper, 2):
            wrapper.update_params(weight * 1.0)
            wrapper.update_params(weight * 1.0)
    assert weight.item() == pytest.approx(-2.0)


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_counts_are_restored_after_an_interruption(error):
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(nn.Identity(), 1, 5)
    with pytest.raises(error), counted_once(wrapper, 4):
        wrapper.update_params(weight * 1.0)
        raise error
    assert counts_of(wrapper) == (2, 1, 5, 1)


def test_the_methods_that_are_overridden_exist():
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        assert callable(getattr(CheckpointHook, name))


def test_coco_metrics_hold_the_ground_truth_that_copies_share(tmp_path):
    path = tmp_path / 'val.json'
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    assert coco_ground_truth(CocoMetric(ann_file=str(path))).getImgIds() == []
