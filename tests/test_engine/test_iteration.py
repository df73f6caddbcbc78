"""The passes of an iteration: their batch, their order, what they leave behind."""

import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmmutual.engine import SoftLabelDistillation, Subnet
from mmmutual.engine.iteration import MutualIteration
from mmmutual.engine.loss_guard import LossGuard
from mmmutual.layers import SlimLinear, get_width
from tests.support.tiny import build_runner, find_hook, tiny_config, without_validation

SUBNETS = [Subnet(1.0), Subnet(0.75), Subnet(0.5)]


@MODELS.register_module()
class DarkenAndDouble(nn.Module):
    """Draws a brightness, and doubles the boxes in place."""

    def forward(self, inputs, data_samples):
        for sample in data_samples:
            sample.gt_instances.bboxes *= 2
        return inputs * torch.rand(1), data_samples


def test_all_passes_of_an_iteration_train_on_one_batch(tiny_data, tmp_path):
    config = without_validation(tiny_config(tiny_data, tmp_path))
    config.train_dataloader.dataset.indices = 4
    find_hook(config).scales = (1.0,)
    config.model.data_preprocessor.batch_augments = [dict(type='DarkenAndDouble')]
    runner = build_runner(config)
    seen, prepared, loss = [], [], runner.model.loss
    runner.model.data_preprocessor.register_forward_hook(lambda *args: prepared.append(len(seen)))

    def watch(inputs, data_samples):
        seen.append((inputs.clone(), [sample.gt_instances.bboxes.clone() for sample in data_samples]))
        losses = loss(inputs, data_samples)
        for sample in data_samples:
            sample.gt_instances.bboxes.zero_()
        return losses

    runner.model.loss = watch
    runner.train()
    assert prepared == [0, 4], 'once for each of two iterations'
    first, *others = seen[:4]
    assert len(seen) == 8 and first[0].any() and first[1][0].any()
    for images, boxes in others:
        assert torch.equal(images, first[0])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(boxes, first[1]))
    assert not torch.equal(seen[4][0], first[0])


class Network(BaseModel):
    """A linear layer; notes the width of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.head = SlimLinear(8, 8, bias=False, slim_out=False)
        self.widths, self.unsynchronised, self.fails_at = [], 0, None

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.widths.append(get_width(self))
        if self.widths[-1] == self.fails_at:
            raise KeyboardInterrupt
        return dict(loss=self.head(inputs).square().mean())

    @contextmanager
    def no_sync(self):
        """As that of a wrapper."""
        self.unsynchronised += 1
        yield


def wrapper_for(model: nn.Module, counts: int = 1) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=counts)


def run(model: Network, wrapper: OptimWrapper, batch=None, **options) -> list[dict]:
    batch = dict(inputs=torch.ones(2, 8)) if batch is None else batch
    return MutualIteration(LossGuard('raise'), **options).run(model, batch, wrapper, SUBNETS, 'iteration 1')


@pytest.mark.parametrize(('reduction', 'factor'), [('sum', 1), ('mean', 3)])
@pytest.mark.parametrize('counts', [1, 2])
def test_a_pass_for_each_sub_network_and_one_step(counts, reduction, factor):
    model = Network()
    weight, wrapper = model.head.weight, wrapper_for(model, counts)
    before = weight.detach().clone()
    for _ in range(counts):
        assert torch.equal(weight, before)
        logs = run(model, wrapper, loss_reduction=reduction)
    assert model.widths == [subnet.width for subnet in SUBNETS] * counts
    assert model.unsynchronised == counts * 4 - 1, 'preparation and all passes but the last of the last iteration'
    by_hand = before.clone().requires_grad_()
    (3 / factor * nn.functional.linear(torch.ones(2, 8), by_hand).square().mean()).backward()
    torch.testing.assert_close(weight, before - 0.1 * by_hand.grad)
    assert [list(log) for log in logs] == [['loss']] * 3
    assert not any(log['loss'].requires_grad for log in logs), 'a log keeps no graph'


def test_a_batch_may_be_a_tuple():
    model = Network()
    assert len(run(model, wrapper_for(model), batch=(torch.ones(2, 8),))) == 3
    with pytest.raises(TypeError, match='rescaling needs a batch of DetDataPreprocessor'):
        MutualIteration(LossGuard('raise')).run(
            model, (torch.ones(2, 8),), wrapper_for(model), [Subnet(1.0, 0.5)], 'iteration 1'
        )


class Destructive(Network):
    """Notes what a pass receives, and overwrites it."""

    def forward(self, inputs, data_samples=None, mode='loss'):
        sample = data_samples[0]
        truth, pixels = sample.gt_instances, sample.gt_sem_seg.sem_seg
        parts = [inputs, truth.bboxes, truth.labels, torch.from_numpy(truth.masks.masks), pixels]
        self.widths.append([part.float().mean().item() for part in parts])
        loss = super().forward(inputs.mean((2, 3)).repeat(1, 3)[:, :8])
        for part in parts:
            part.zero_()
        sample.set_metainfo(dict(img_shape=(0, 0)))
        return loss


def test_what_a_pass_changes_reaches_no_other_pass(monkeypatch):
    sample = DetDataSample(metainfo=dict(img_shape=(8, 8)), gt_sem_seg=PixelData(sem_seg=torch.ones(1, 8, 8).long()))
    truth = dict(
        bboxes=torch.full((2, 4), 4.0), labels=torch.ones(2), masks=BitmapMasks(np.ones((2, 8, 8), 'u1'), 8, 8)
    )
    sample.gt_instances = InstanceData(**truth)
    copied, clone = [], torch.Tensor.__deepcopy__
    monkeypatch.setattr(torch.Tensor, '__deepcopy__', lambda self, memo: copied.append(self.dim()) or clone(self, memo))
    model, batch = Destructive(), dict(inputs=torch.ones(1, 3, 8, 8), data_samples=[sample])
    subnets = [Subnet(1.0), Subnet(0.75, 0.5), Subnet(0.5), Subnet(0.5, 0.25)]
    MutualIteration(LossGuard('raise')).run(model, batch, wrapper_for(model), subnets, 'iteration 1')
    seen = [values for values in model.widths if isinstance(values, list)]
    assert seen == [[1, 4 * subnet.scale, 1, 1, 1] for subnet in subnets]
    assert copied.count(4) == 2, 'images are copied at full scale only: a smaller scale makes new ones'
    assert batch['inputs'].all() and sample.img_shape == (8, 8) and sample.gt_instances.bboxes.all()
    assert type(sample.gt_instances.masks) is BitmapMasks and sample.gt_instances.masks.masks.all()


@pytest.mark.parametrize('infinite', [True, False])
def test_an_error_names_an_earlier_loss_and_leaves_no_gradients(infinite):
    model = Network()

    def fail(head, args, output) -> torch.Tensor:
        if get_width(model) == 0.5:
            assert model.head.weight.grad is not None
            raise ZeroDivisionError('matrix contains invalid entries')
        return output * float('inf') if infinite and get_width(model) == 0.75 else output

    model.head.register_forward_hook(fail)
    expected = (
        (FloatingPointError, '^iteration 1, width 0.75 at scale 1: loss is inf')
        if infinite
        else (ZeroDivisionError, '^matrix contains')
    )
    with pytest.raises(expected[0], match=expected[1]):
        run(model, wrapper_for(model))
    assert model.head.weight.grad is None


@pytest.mark.parametrize('width', [1.0, 0.5])
def test_an_interrupt_leaves_width_and_counts_as_they_were(width):
    model = Network()
    model.fails_at = width
    wrapper = wrapper_for(model, counts=2)
    with pytest.raises(KeyboardInterrupt):
        run(model, wrapper)
    assert get_width(model) == 1.0
    assert (wrapper._accumulative_counts, wrapper._inner_count) == (2, 0)


def test_outputs_are_freed_before_the_next_pass():
    model, outputs, alive = Network(), [], []

    def note(head, args, output) -> None:
        alive.append([reference() is not None for reference in outputs])
        outputs.append(weakref.ref(output))

    model.head.register_forward_hook(note)
    run(model, wrapper_for(model))
    assert alive == [[], [False], [False, False]]
    alive.clear()
    outputs.clear()
    run(model, wrapper_for(model), distillation=SoftLabelDistillation())
    assert alive == [[], [False], [False, False]], 'the teacher is a detached tensor'
