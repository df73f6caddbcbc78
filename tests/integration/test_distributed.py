"""Two gloo processes against one process that averages both batches' gradients."""

import copy
import os
import socket
import time

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

from mmmutual.engine import RoIDistillation, SandwichSampler, rescale_batch
from mmmutual.engine.hooks.iteration_seed_hook import TRAINING, _seed
from mmmutual.layers import SlimBatchNorm2d, set_width
from tests.support.tiny import build_runner, find_hook, run_training, tiny_config, without_validation

PROCESSES, ITERATIONS = 2, 2
LEARNING_RATE = 1e-4  # small, since the frozen statistics do not normalise and rounding grows with each step


def config_for(data, work_dir):
    """Frozen norms, so that the processes' batches meet in the gradients alone; no flips."""
    config = without_validation(tiny_config(data, work_dir))
    config.model.backbone.update(norm_eval=True, init_cfg=dict(type='Pretrained', checkpoint=f'{data}/start.pth'))
    config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=LEARNING_RATE, momentum=0.9))
    find_hook(config).distill = dict(type='RoIDistillation')  # runs the box head again, after the wrapper's forward
    config.train_dataloader.dataset.pipeline = [
        transform for transform in config.train_dataloader.dataset.pipeline if transform.type != 'RandomFlip'
    ]
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    return config


def write_start(config, path) -> None:
    """Backbone weights with statistics for every width."""
    config.model.backbone.init_cfg = None
    backbone = build_runner(config).model.backbone
    for norm in backbone.modules():
        if isinstance(norm, SlimBatchNorm2d):
            for width in norm.widths:
                norm.statistics(width)[2].fill_(1)
    torch.save(backbone.state_dict(), path)


def train_process(rank: int, port: int, data, work_dir) -> None:
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(PROCESSES))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.distributed.init_process_group('gloo')
    config = config_for(data, work_dir)
    config.launcher = 'pytorch'  # the process group is there, so MMEngine does not ask for GPUs
    runner = run_training(config)
    torch.save(runner.model.module.state_dict(), work_dir / f'rank{rank}.pth')
    torch.distributed.destroy_process_group()


def train_by_hand(config, monkeypatch) -> tuple[dict, dict]:
    """The weights before and after."""
    config.model_wrapper_cfg = None
    model = build_runner(config).model
    model.init_weights()
    start = copy.deepcopy(model.state_dict())
    model.train()
    dataset = DATASETS.build(config.train_dataloader.dataset)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    sampler = SandwichSampler(config.model.backbone.widths, find_hook(config).scales, 4, 0)
    for iteration in range(ITERATIONS):
        for rank in range(PROCESSES):
            indices = order[rank::PROCESSES][2 * iteration : 2 * iteration + 2]
            batch = pseudo_collate([dataset[index] for index in indices])
            monkeypatch.setattr('mmmutual.engine.hooks.iteration_seed_hook.get_rank', lambda rank=rank: rank)
            _seed(0, iteration, TRAINING)
            distillation, teacher = RoIDistillation(), None
            for subnet in sampler.sample(iteration):
                set_width(model, subnet.width)
                inputs, samples = rescale_batch(
                    **model.data_preprocessor(batch, True), scale=subnet.scale, pad_size_divisor=32
                )
                with distillation.watched(model) as passes:
                    losses = model(inputs, data_samples=samples, mode='loss')
                if teacher is not None:
                    losses = distillation.losses(losses, passes[0], teacher, subnet.scale)
                teacher = teacher or distillation.as_teacher(passes[0])
                loss, _ = model.parse_losses(losses)
                (loss / PROCESSES).backward()
        optimizer.step()
        optimizer.zero_grad()
    return start, model.state_dict()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason='torch was built without gloo')
def test_two_processes_equal_the_mean_gradient_of_both_batches(tiny_data, tmp_path, monkeypatch):
    write_start(config_for(tiny_data, tmp_path), tiny_data / 'start.pth')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    context = mp.start_processes(
        train_process, (port, tiny_data, tmp_path), nprocs=PROCESSES, join=False, start_method='spawn'
    )
    deadline = time.monotonic() + 120
    while not context.join(timeout=5):
        assert time.monotonic() < deadline, 'the processes hang'
    start, by_hand = train_by_hand(config_for(tiny_data, tmp_path / 'hand'), monkeypatch)
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in range(PROCESSES))
    changed = 0
    for name, theirs in by_hand.items():
        assert torch.equal(first[name], second[name]), name
        change = (theirs - start[name]).abs().max().item()
        changed += change > 0
        # the sum over the processes is rounded otherwise than that over batches
        torch.testing.assert_close(first[name], theirs, atol=0.01 * change + 1e-7, rtol=0, msg=lambda m: f'{name}: {m}')
    assert changed > 50
