"""A pass whose loss is not finite stops the run or is left out; the model is as if it had not been."""

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from mmmutual.engine import MutualLearningHook, SandwichSampler
from mmmutual.engine.loss_guard import LossGuard
from mmmutual.engine.pass_losses import PassLosses, read
from mmmutual.layers import SlimBatchNorm2d, get_width
from tests.support.tiny import build_runner, find_hook, tiny_retinanet, without_validation

FAULTY = 1  # the second iteration
NARROW_SCALE = next(s.scale for s in SandwichSampler((1.0, 0.75, 0.5, 0.25), (1.0, 0.75, 0.5)).sample(FAULTY)[3:])


def runner_for(data, work_dir, nonfinite: str, wrapper: str = 'OptimWrapper', **options):
    """A runner of two iterations with SGD and momentum."""
    config = without_validation(tiny_retinanet(data, work_dir))
    config.optim_wrapper = dict(type=wrapper, optimizer=dict(type='SGD', lr=1e-4, momentum=0.9), **options)
    find_hook(config).nonfinite = nonfinite
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1000)
    config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    config.default_hooks.checkpoint.update(by_epoch=False, interval=1000, save_last=False)
    return build_runner(config)


class Fault(Hook):
    """Multiplies the class scores at one width in one iteration; keeps the weights before it."""

    def __init__(self, runner, width: float, factor: float) -> None:
        self.width, self.factor, self.before = width, factor, None
        runner.model.bbox_head.register_forward_hook(self.change)
        self.runner = runner
        runner.register_hook(self, priority='VERY_HIGH')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == FAULTY:
            self.before = {name: value.clone() for name, value in runner.model.state_dict().items()}

    def change(self, head, inputs, outputs):
        if self.runner.iter == FAULTY and get_width(self.runner.model) == self.width:
            scores, boxes = outputs
            return [score * self.factor for score in scores], boxes
        return outputs


def messages_of(runner) -> list[str]:
    messages = []
    for handler in runner.logger.handlers:
        handler.setLevel('WARNING')
        handler.emit = lambda record: messages.append(record.getMessage())
    runner.logger.setLevel('WARNING')
    return messages


@pytest.mark.integration
@pytest.mark.parametrize(('width', 'scale'), [(1.0, 1.0), (0.25, NARROW_SCALE)])
def test_raise_says_where_and_takes_no_step(width, scale, tiny_data, tmp_path):
    runner = runner_for(tiny_data, tmp_path, 'raise')
    fault = Fault(runner, width, math.nan)
    message = rf'^iteration 2, width {width:g} at scale {scale:g}: loss_cls is nan\. No step was taken.*nonfinite=.skip'
    with pytest.raises(FloatingPointError, match=message):
        runner.train()
    for name, parameter in runner.model.named_parameters():
        assert torch.equal(parameter, fault.before[name]), name
        assert parameter.grad is None, 'the passes before the error have left no gradients'
    assert get_width(runner.model) == 1.0


def train_with(data, work_dir, width: float, factor: float, change=lambda runner: None):
    runner = runner_for(data, work_dir, 'skip')
    messages = messages_of(runner)
    fault = Fault(runner, width, factor)
    change(runner)
    runner.train()
    return runner, fault, messages


@pytest.mark.integration
@pytest.mark.parametrize(('width', 'scale'), [(1.0, 1.0), (0.25, NARROW_SCALE)])
def test_skip_is_a_pass_without_gradient_and_statistics(width, scale, tiny_data, tmp_path):
    runner, fault, messages = train_with(tiny_data, tmp_path / 'skip', width, math.inf)
    found = f'iteration 2, width {width:g} at scale {scale:g}: loss_cls is '
    assert [message for message in messages if found in message and message.endswith('the pass is left out')]

    def without_gradient(reference):
        """The same run, except for a pass whose losses are multiplied by 0."""
        loss = reference.model.loss

        def scaled(*args, **kwargs):
            losses = loss(*args, **kwargs)
            if reference.iter == FAULTY and get_width(reference.model) == width:
                losses = {name: [item * 0 for item in value] for name, value in losses.items()}
            return losses

        reference.model.loss = scaled

    reference, _, messages = train_with(tiny_data, tmp_path / 'reference', width, 1.0, without_gradient)
    assert not [message for message in messages if 'left out' in message]
    changed = 0
    theirs = dict(reference.model.named_parameters())
    for name, parameter in runner.model.named_parameters():
        assert torch.equal(parameter, theirs[name]), name
        changed += not torch.equal(parameter, fault.before[name])
    assert changed > 20
    for name, norm in runner.model.named_modules():
        if isinstance(norm, SlimBatchNorm2d):
            suffix = '' if width == 1.0 else '_at_0_25'
            before = [fault.before[f'{name}.{kind}{suffix}'] for kind in ('running_mean', 'running_var')]
            assert all(map(torch.equal, norm.statistics(width)[:2], before)), name
    logged = runner.message_hub.get_scalar('train/loss_cls' if width == 1.0 else 'train/w0.25/loss_cls').data[0]
    assert math.isfinite(logged[0]) and not math.isfinite(logged[1]), 'the log shows what happened'


def test_statistics_that_the_pass_poisoned_are_restored():
    model = torch.nn.Sequential(SlimBatchNorm2d(8, widths=(1.0, 0.5)), torch.nn.BatchNorm2d(8))
    guard = LossGuard('skip')
    x = torch.rand(2, 8, 3, 3)
    model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    guard.before_forward(model)
    out = model(x * math.nan)
    assert model[0].running_mean.isnan().all() and model[1].running_mean.isnan().all()
    loss, losses = parsed(dict(loss_a=out.sum(), loss_b=[torch.ones(()), torch.ones(())], acc=out))
    loss = guard.after_forward(model, loss, losses)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loss.backward()
    assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert loss.isnan() and losses.log['loss_b'] == 2


def parsed(losses: dict) -> tuple[torch.Tensor, PassLosses]:
    """The loss of a pass and its terms, as in an iteration."""
    loss, log = BaseModel.parse_losses(None, losses)
    return loss, PassLosses.of('here', losses, log)


def check(losses: dict, data_samples=None) -> None:
    """Check a pass between two others."""
    passes = [parsed(each)[1] for each in (dict(loss=torch.zeros(())), losses, dict(loss_c=torch.zeros(())))]
    LossGuard('raise').before_step(passes, data_samples)


@pytest.mark.parametrize('value', [math.inf, -math.inf, math.nan])
def test_each_kind_of_value_is_found(value):
    losses = dict(loss_a=torch.ones(()), loss_b=[torch.ones(()), torch.tensor(value)])
    with pytest.raises(FloatingPointError, match=rf'^here loss_b is {value}\. No step was taken'):
        check(losses)


@pytest.mark.parametrize('kind', [HorizontalBoxes, torch.Tensor], ids=['boxes', 'tensor'])
@pytest.mark.parametrize('box', [[5.0, 1.0, 5.0, 9.0], [5.0, 9.0, 7.0, 1.0], [0.0, 0.0, math.nan, 2.0]], ids=str)
def test_the_image_of_a_box_without_size_is_named(box, kind):
    samples = [DetDataSample(gt_instances=InstanceData(bboxes=kind([[0.0, 0.0, 1.0, 1.0]]))) for _ in range(3)]
    samples[1] = DetDataSample(metainfo=dict(img_path='photos/b.jpg', img_id='b'))
    samples[1].gt_instances = InstanceData(bboxes=kind([[0.0, 0.0, 1.0, 1.0], box]))
    losses = dict(loss_a=torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(
        FloatingPointError, match=r'No step was taken\. The image photos/b.jpg has a box without'
    ) as caught:
        check(losses, samples)
    assert 'learning rate' not in str(caught.value)
    with pytest.raises(FloatingPointError, match='lower learning rate'):
        check(losses, samples[::2])


def test_what_is_no_loss_is_not_looked_at():
    check(dict(loss=torch.ones(()), acc=torch.tensor(math.nan)))


@pytest.mark.parametrize('renamed', [dict(total=torch.ones(())), {}])
def test_a_model_that_renames_its_losses(renamed):
    losses = PassLosses.of('here', dict(loss_a=torch.ones(())), dict(loss=torch.tensor(math.nan), **renamed))
    with pytest.raises(FloatingPointError, match=r'^here loss is nan\.'):
        LossGuard('raise').before_step([losses])


def test_losses_of_several_types_and_passes_are_read_as_they_are():
    logs = [dict(loss=torch.tensor(1.5), acc=torch.tensor([7.0])), dict(loss=torch.tensor(2.25, dtype=torch.bfloat16))]
    passes = [PassLosses.of('here', log, log) for log in logs]
    read(passes)
    assert [{name: value.item() for name, value in each.log.items()} for each in passes] == [
        dict(loss=1.5, acc=7.0),
        dict(loss=2.25),
    ]


@pytest.mark.integration
def test_infinite_gradients_are_left_to_mixed_precision(tiny_data, tmp_path, monkeypatch):
    """GradScaler skips the step and halves its scale; the losses are finite."""
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    runner = runner_for(tiny_data, tmp_path, 'raise', 'AmpOptimWrapper', dtype='bfloat16')
    fault = Fault(runner, 1.0, 1.0)
    runner.train_loop  # builds the wrapper  # noqa: B018
    weight = runner.model.bbox_head.retina_cls.weight
    weight.register_hook(lambda gradient: gradient * (math.inf if runner.iter == FAULTY else 1))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0
    assert all(torch.equal(value, fault.before[name]) for name, value in runner.model.named_parameters())


def test_wrong_argument():
    with pytest.raises(ValueError, match=r"nonfinite must be one of \('raise', 'skip'\), but got 'stop'"):
        MutualLearningHook(widths=(1.0, 0.5), nonfinite='stop')
