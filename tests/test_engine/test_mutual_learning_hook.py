from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmmutual.engine import MutualLearningHook, SandwichSampler, rescale_batch
from mmmutual.engine.hooks.iteration_seed_hook import TRAINING, _seed
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, SlimLinear, get_width, set_width
from tests.support.mutual_trainings import ITERATIONS, SEED, config_for
from tests.support.tiny import build_runner, find_hook, run_training


def train_by_hand(config: Config, case: str) -> nn.Module:
    """The same training, written out."""
    runner = build_runner(config)  # for its model and its data only
    runner.model.load_state_dict(torch.load(config.load_from)['state_dict'])
    model, loader = runner.model, iter(Runner.build_dataloader(config.train_dataloader, seed=SEED))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optim_wrapper.optimizer.lr, momentum=0.9)
    sampler = SandwichSampler(config.model.backbone.widths, find_hook(config).scales, 4, SEED)
    every = 2 if case == 'accumulate' else 1
    model.train()
    features = []  # of the passes of an iteration
    model.neck.fpn_convs[0].register_forward_hook(lambda module, args, level: features.append([level]))
    _seed(SEED, 0, 0)
    for iteration in range(ITERATIONS):
        batch = next(loader)
        _seed(SEED, iteration, TRAINING)
        features.clear()
        for subnet in sampler.sample(iteration):
            set_width(model, subnet.width)
            with torch.autocast('cpu', torch.bfloat16, enabled=case == 'amp'):
                data = model.data_preprocessor(batch, True)
                inputs, samples = rescale_batch(**data, scale=subnet.scale, pad_size_divisor=32)
                loss, _ = model.parse_losses(model.loss(inputs, samples))
            if case == 'distill' and len(features) > 1:
                loss = loss + 2.0 * decorrelation(features[-1], features[0], subnet.scale)
            (loss / every / (4 if case == 'mean' else 1)).backward()
        if (iteration + 1) % every == 0:
            if case == 'clip':
                norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                assert norm > 0.5  # or the case would show nothing
            optimizer.step()
            optimizer.zero_grad()
        _seed(SEED, iteration + 1, 0)
    return model


def decorrelation(student: tuple, teacher: tuple, scale: float) -> torch.Tensor:
    """1 minus the correlation coefficient, mean over the channels of the largest level."""
    coefficients = []
    for ours, theirs in zip(student[:1], teacher[:1]):
        size = [round(side * scale) for side in theirs.shape[2:]]
        theirs = nn.functional.interpolate(theirs.detach(), size, mode='bilinear', antialias=True)
        height, width = (min(sides) for sides in zip(ours.shape[2:], size))
        for channel in range(ours.size(1)):
            pair = [maps[:, channel, :height, :width].flatten() for maps in (ours, theirs)]
            coefficients.append(torch.corrcoef(torch.stack(pair))[0, 1])
    return 1 - torch.stack(coefficients).mean()


@pytest.mark.integration
@pytest.mark.parametrize('case', ['sum', 'mean', 'clip', 'accumulate', 'amp', 'iterations', 'distill', 'with_cp'])
def test_an_iteration_is_four_passes_and_one_step(case, tiny_data, tmp_path, monkeypatch):
    # MMEngine's AMP refuses to start without a GPU, though its autocast runs on the CPU
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    by_hand, by_hook = (config_for(case, tiny_data, tmp_path / name) for name in ('hand', 'hook'))
    start = MODELS.build(by_hand.model)
    start.init_weights()
    by_hand.load_from = by_hook.load_from = str(tmp_path / 'start.pth')
    torch.save(dict(state_dict=start.state_dict()), tmp_path / 'start.pth')
    by_hand = train_by_hand(by_hand, case)
    by_hook.model.backbone.with_cp = case == 'with_cp'  # checkpointed blocks run again in the backward of their pass
    runner = run_training(by_hook)
    changed = 0
    atol = 2e-5 if case == 'distill' else 1e-6  # its reference is another formula, which rounds differently
    for (name, ours), theirs in zip(runner.model.state_dict().items(), by_hand.state_dict().values()):
        if case == 'with_cp' and ('running_' in name or 'num_batches' in name):
            continue  # a stock norm in a checkpointed block too counts each batch twice
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-5, msg=lambda m: f'{name}: {m}')
        changed += not torch.equal(ours, start.state_dict()[name])
    assert changed > 50


@pytest.mark.integration
def test_losses_are_logged_for_each_width(tiny_data, tmp_path):
    runner = run_training(config_for('sum', tiny_data, tmp_path))
    scalars = runner.message_hub.log_scalars
    for width in ('w0.25', 'w0.5', 'w0.75'):
        assert {f'train/{width}/loss', f'train/{width}/loss_rpn_cls', f'train/{width}/loss_mask'} <= set(scalars)
        assert len(scalars[f'train/{width}/loss'].data[0]) == ITERATIONS
    assert len(scalars['train/loss'].data[0]) == ITERATIONS
    assert not any('w1/' in name for name in scalars)


@pytest.mark.integration
def test_logged_losses_are_not_multiplied(tiny_data, tmp_path):
    first = [
        run_training(config_for(case, tiny_data, tmp_path / case)).message_hub.get_scalar('train/loss').data[0][0]
        for case in ('sum', 'mean')
    ]
    assert first[0] == pytest.approx(first[1])


@pytest.mark.integration
def test_the_model_is_left_at_its_widest_without_hooks(tiny_data, tmp_path):
    model = run_training(config_for('sum', tiny_data, tmp_path)).model
    assert get_width(model) == 1.0
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert 'train_step' not in vars(model)


@pytest.mark.integration
@pytest.mark.parametrize('counts', [1, 2])
def test_the_optimizer_wrapper_takes_single_steps_afterwards(counts, tiny_data, tmp_path):
    config = config_for('sum', tiny_data, tmp_path)
    config.train_dataloader.dataset.indices = 4
    config.optim_wrapper.accumulative_counts = counts
    runner = run_training(config)
    weight, wrapper = runner.model.backbone.conv1.weight, runner.optim_wrapper
    wrapper.initialize_count_status(runner.model, 0, -1)  # MMEngine leaves the counts of its last iteration
    wrapper.zero_grad()
    changed = []
    for _ in range(4):
        before = weight.detach().clone()
        wrapper.update_params((weight * torch.linspace(-1, 1, weight.numel()).view_as(weight)).sum())
        changed.append(not torch.equal(before, weight))
    assert changed == ([True] * 4 if counts == 1 else [False, True, False, True])


@pytest.mark.integration
def test_an_epoch_that_was_interrupted_is_repeated(tiny_data, tmp_path):
    config = config_for('sum', tiny_data, tmp_path)
    config.train_dataloader.update(batch_size=1)
    config.train_dataloader.dataset.indices = 2
    runner = build_runner(config)
    runner.train_loop._iter = 1
    runner.train()
    assert (runner.iter, runner.max_iters) == (3, 2)


@pytest.mark.integration
def test_a_training_continues_after_an_interruption(tiny_data, tmp_path):
    models = []
    for interrupted in (False, True):
        config = config_for('sum', tiny_data, tmp_path)
        config.train_dataloader.update(batch_size=1)
        config.train_dataloader.dataset.indices = 1
        runner = build_runner(config)
        if interrupted:
            narrow = runner.model.backbone.register_forward_pre_hook(interrupt_narrow)
            with pytest.raises(KeyboardInterrupt):
                runner.train()
            narrow.remove()
        for norm in runner.model.backbone.modules():  # the interrupted pass has updated statistics
            norm.momentum = 0.0
        runner.train()
        assert runner.optim_wrapper._accumulative_counts == 1
        models.append(dict(runner.model.named_parameters()))
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name


def interrupt_narrow(backbone, args):
    if get_width(backbone) < 1.0:
        raise KeyboardInterrupt


def test_several_optimizers_are_refused():
    model = nn.Sequential(SlimLinear(16, 16))
    wrappers = OptimWrapperDict(a=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    runner = SimpleNamespace(model=model, optim_wrapper=wrappers, seed=0, iter=0, max_iters=4, cfg={}, hooks=[])
    with pytest.raises(ValueError, match='needs one OptimWrapper, but the runner has a OptimWrapperDict: train all'):
        MutualLearningHook(widths=(1.0, 0.5)).before_train(runner)


@pytest.mark.integration
def test_single_small_images_train_at_every_scale(tiny_data, tmp_path):
    config = config_for('sum', tiny_data, tmp_path)
    config.train_dataloader.update(batch_size=1)
    config.train_dataloader.dataset.indices = 2
    find_hook(config).scales = (1.0, 0.5, 0.25)  # 32 and 16 pixels, at a stride of 32
    assert run_training(config).iter == 2


def test_a_failing_pass_restores_the_width_and_train_step(tiny_data, tmp_path, monkeypatch):
    runner = build_runner(config_for('sum', tiny_data, tmp_path))
    monkeypatch.setattr(runner.model.roi_head, 'loss', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert get_width(runner.model) == 1.0
    assert 'train_step' not in vars(runner.model)


@pytest.mark.parametrize(
    ('arguments', 'error', 'text'),
    [
        (dict(widths=()), ValueError, 'widths is empty'),
        (dict(widths=(1.0, 1.0)), ValueError, 'widths must not repeat a value'),
        (dict(widths=(1.0, 0)), ValueError, 'each of widths must be above 0 and at most 1'),
        (dict(scales=()), ValueError, 'scales is empty'),
        (dict(scales=(1.0, 1.2)), ValueError, 'each of scales must be above 0 and at most 1.*got 1.2'),
        (dict(scales=(1.0, '0.5')), TypeError, "each of scales must be a number.*got '0.5'"),
        (dict(scales=(0.5, 0.5)), ValueError, 'scales must not repeat a value'),
        (dict(num_subnets=1), ValueError, 'num_subnets must be at least 2'),
        (dict(num_subnets=2.0), TypeError, 'num_subnets must be a whole number, but got 2.0'),
        (dict(loss_reduction='max'), ValueError, r"loss_reduction must be one of \('sum', 'mean'\), but got 'max'"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        MutualLearningHook(**{'widths': (1.0, 0.5), **arguments})


def test_it_trains_the_grid_of_the_model_by_default():
    hook = MutualLearningHook(scales=(1.0, 0.5), num_subnets=3)
    for widths in ((1.0, 0.5), (0.75, 0.5, 0.25)):  # a hook may check one model, then another
        model = nn.Sequential(SlimConv2d(3, 16, 1), SlimBatchNorm2d(16, widths=widths))
        hook.check(model, {})
        assert (hook.sampler.widths, hook.sampler.scales, hook.sampler.num_subnets) == (widths, (1.0, 0.5), 3)
    with pytest.raises(ValueError, match='Sequential declares no widths, .*pass widths, for example'):
        hook.check(nn.Sequential(SlimLinear(16, 16)), {})
    MutualLearningHook(widths=(1.0, 0.5)).check(nn.Sequential(SlimLinear(16, 16)), {})
    with pytest.raises(ValueError, match=r'num_subnets must be at least 2 for widths \(0.75, 0.5, 0.25\), but got 1'):
        MutualLearningHook(num_subnets=1).check(model, {})
