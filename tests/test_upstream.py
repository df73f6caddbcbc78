"""Private names of upstream packages do what this project needs of them."""

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn

from mmmutual.upstream import (
    coco_ground_truth,
    drop_hooks,
    multiply_counts,
    parse_losses,
    restore_counts,
    update_losses,
)


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


def test_an_optimizer_wrapper_steps_after_all_passes():
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    assert multiply_counts(wrapper, 4) == 2
    assert multiply_counts(wrapper, 3) == 2  # a training that was interrupted has restored nothing
    wrapper.initialize_count_status(nn.Identity(), 0, 12)
    values = []
    for _ in range(6):
        wrapper.update_params(weight * 1.0)
        values.append(weight.item())
    assert values == pytest.approx([1.0] * 5 + [0.0])
    restore_counts(wrapper)
    for _ in range(2):
        wrapper.update_params(weight * 1.0)
    assert weight.item() == pytest.approx(-1.0)


def test_the_methods_that_are_overridden_exist():
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        assert callable(getattr(CheckpointHook, name))


def test_coco_metrics_hold_the_ground_truth_that_copies_share(tmp_path):
    path = tmp_path / 'val.json'
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    assert coco_ground_truth(CocoMetric(ann_file=str(path))).getImgIds() == []
