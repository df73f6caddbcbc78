"""Losses of narrow passes from the widest pass; test_mutual_learning_hook.py tests a full detector."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from mmmutual.engine import MutualLearningHook, PearsonDistillation, SoftLabelDistillation
from mmmutual.engine.distillation.base import detached
from mmmutual.layers import SlimConv2d, SlimLinear, set_width

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Classifier(BaseModel):
    """A convolution and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SlimConv2d(3, 32, 3)
        self.head = SlimLinear(32, 5, slim_out=False)
        self.unused = nn.Linear(1, 1)

    def forward(self, inputs, data_samples, mode):
        scores = self.head(self.backbone(inputs).relu().mean((2, 3)))
        return dict(loss=nn.functional.cross_entropy(scores, data_samples), accuracy=scores.sum().detach())


def make_hook(model: nn.Module, **arguments) -> tuple[MutualLearningHook, SimpleNamespace]:
    """A hook ready to train, and its runner."""
    hook = MutualLearningHook(WIDTHS, **arguments)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    hub = MessageHub.get_instance('distillation')
    runner = SimpleNamespace(
        cfg={}, model=model, optim_wrapper=wrapper, seed=0, iter=0, max_iters=9, message_hub=hub, hooks=[]
    )
    hook.before_train(runner)
    return hook, runner


def test_narrow_classifiers_learn_the_soft_labels_alone():
    model, by_hand = Classifier(), Classifier()
    by_hand.load_state_dict(model.state_dict())
    batch = dict(inputs=torch.randn(4, 3, 8, 8), data_samples=torch.randint(5, (4,)))

    hook, runner = make_hook(model, distill=dict(type='SoftLabelDistillation', loss_weight=0.5))
    hook.before_train_iter(runner, 0, batch)
    losses = model.train_step(batch, runner.optim_wrapper)
    hook.after_train_iter(runner, 0, batch)

    def scores(width):
        set_width(by_hand, width)
        return by_hand.head(by_hand.backbone(batch['inputs']).relu().mean((2, 3)))

    target = scores(1.0).softmax(1).detach()
    total = nn.functional.cross_entropy(scores(1.0), batch['data_samples'])
    assert losses['loss'].item() == pytest.approx(total.item())
    for subnet in hook.sampler.sample(0)[1:]:
        divergence = (target * (target / scores(subnet.width).softmax(1)).log()).sum(1).mean()
        logged = {
            name: runner.message_hub.get_scalar(f'train/w{subnet.width:g}/{name}').current()
            for name in ('loss', 'loss_distill', 'accuracy')
        }
        assert logged['loss'] == pytest.approx(0.5 * divergence.item(), rel=1e-4)
        assert logged['loss'] == logged['loss_distill']
        total = total + 0.5 * divergence
    total.backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.1).step()
    for (name, ours), theirs in zip(model.named_parameters(), by_hand.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5, msg=name)
    assert not model.head._forward_hooks, 'nothing is watched for longer than it is needed'


def test_pearson_is_one_minus_the_correlation():
    student, teacher = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 5))
    student, teacher = torch.tensor(student + 0.5 * teacher), torch.tensor(teacher)
    expected = 1 - np.mean([np.corrcoef(student[:, c].flatten(), teacher[:, c].flatten())[0, 1] for c in range(3)])
    labels = dict(loss_cls=torch.ones(()))
    found = PearsonDistillation(loss_weight=3.0).losses(labels, [student], [teacher], 1.0)
    assert found['loss_distill'].item() == pytest.approx(3 * expected, rel=1e-4)
    assert found['loss_cls'] is labels['loss_cls']
    single = PearsonDistillation(loss_weight=3.0).losses(labels, student, teacher, 1.0)
    assert single['loss_distill'] == found['loss_distill'], 'one map is one level'
    scaled = PearsonDistillation().losses(labels, [7 * student + 3], [student], 1.0)
    assert scaled['loss_distill'].item() == pytest.approx(0, abs=1e-6), 'magnitudes do not count'


def test_another_scale_other_padding_and_fewer_channels_compare_the_same_pixels():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing='ij')
    teacher = torch.stack([rows + 2 * columns, rows * columns])[None]
    student = nn.functional.interpolate(teacher[:, :1], (8, 12), mode='bilinear', antialias=True)
    student = nn.functional.pad(student, (0, 4, 0, 2), value=99.0)  # padded to another multiple than the teacher's half
    loss = PearsonDistillation().losses({}, [student], [teacher], 0.5)['loss_distill']
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_constant_channel_has_a_finite_gradient():
    student = torch.zeros(1, 2, 4, 4, requires_grad=True)
    PearsonDistillation().losses({}, [student], [torch.rand(1, 2, 4, 4)], 1.0)['loss_distill'].backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ('distill', 'text'),
    [
        (dict(module='neck'), r"needs the module 'neck', but Classifier only has .*'backbone', 'head', 'unused'\]"),
        (dict(module='unused'), "needs the module 'unused', but the training pass did not call it"),
    ],
)
def test_wrong_modules(distill, text):
    model = Classifier()
    batch = dict(inputs=torch.randn(4, 3, 8, 8), data_samples=torch.randint(5, (4,)))
    with pytest.raises(ValueError, match=text):
        hook, runner = make_hook(model, distill=dict(type='SoftLabelDistillation', **distill))
        hook.before_train_iter(runner, 0, batch)
        model.train_step(batch, runner.optim_wrapper)


def test_other_outputs_are_refused():
    with pytest.raises(TypeError, match='distill compares tensors, but its module returns a dict: set distill.module'):
        detached([torch.zeros(1), dict(a=torch.zeros(1))])


@pytest.mark.parametrize('kind', [SoftLabelDistillation, PearsonDistillation])
def test_wrong_weights(kind):
    with pytest.raises(ValueError, match='loss_weight must be a number above 0, but got 0'):
        kind(loss_weight=0)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="distill must be the config of a Distillation.*got .*'ReLU'"):
        MutualLearningHook(WIDTHS, distill=dict(type='ReLU'))
