"""SlimSyncBN in two processes against one batch norm over the batches of both."""

from __future__ import annotations

import socket
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmmutual.layers import SlimBatchNorm2d, SlimSyncBatchNorm2d, set_width

from .device_setting import Fault

PROCESSES = 2
SECONDS = 180  # against processes that wait for each other; a busy machine starts them slowly
CHANNELS, WIDTHS = 32, (1.0, 0.5)


def check_synchronised(device: str) -> None:
    """Compare outputs, gradients and statistics at a narrow width.

    With two GPUs, each process has one and the backend is nccl. Otherwise both share the device, with gloo.

    Args:
        device: ``'cuda'``; on ``'cpu'``, where torch does not synchronise, the reference is a norm of each process.

    Raises:
        Fault: If a process fails, or if the processes do not end.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'tcp://127.0.0.1:{free.getsockname()[1]}'
    has_nccl = device == 'cuda' and torch.cuda.device_count() >= PROCESSES and dist.is_nccl_available()
    processes = mp.spawn(_compare, (address, device, 'nccl' if has_nccl else 'gloo'), PROCESSES, join=False)
    end = time.monotonic() + SECONDS
    try:
        while not processes.join(1.0):
            if time.monotonic() > end:
                raise Fault(f'two processes with SlimSyncBN did not end within {SECONDS} s')
    except mp.ProcessRaisedException as error:
        raise Fault(str(error).strip().splitlines()[-1]) from error
    finally:
        for process in processes.processes:
            process.kill()


def _compare(rank: int, address: str, device: str, backend: str) -> None:
    torch.set_num_threads(1)
    place = torch.device('cuda', rank % torch.cuda.device_count()) if device == 'cuda' else torch.device('cpu')
    if device == 'cuda':
        torch.cuda.set_device(place)
    timeout = timedelta(seconds=SECONDS)
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=PROCESSES, timeout=timeout)
    batches = torch.rand(PROCESSES, 2, CHANNELS // 2, 4, 4, generator=torch.Generator().manual_seed(0)).to(place)
    batches[1] += 1.0
    ours, reference = (kind(CHANNELS, widths=WIDTHS).to(place) for kind in (SlimSyncBatchNorm2d, SlimBatchNorm2d))
    for norm in (ours, reference):
        set_width(norm, WIDTHS[1])
    part, joint = batches[rank].clone().requires_grad_(), batches.clone().requires_grad_()
    found = ours(part)
    expected = reference(joint.flatten(0, 1) if device == 'cuda' else joint[rank])
    found.square().mul(found.detach()).sum().backward()
    expected.square().mul(expected.detach()).sum().backward()
    torch.testing.assert_close(found, expected.unflatten(0, (PROCESSES, -1))[rank] if device == 'cuda' else expected)
    torch.testing.assert_close(part.grad, joint.grad[rank])
    torch.testing.assert_close(ours.statistics(WIDTHS[1]), reference.statistics(WIDTHS[1]))
    dist.destroy_process_group()
