"""torch's fully_shard (FSDP2) with slimmable layers: two gloo processes against averaged gradients."""

import os
import socket
from pathlib import Path

import torch
import torch.multiprocessing as mp
from mmdet.models.backbones import ResNet
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import mmmutual

PROCESSES = 2
PASSES = ((1.0, 64), (0.25, 32), (0.5, 48))  # width and pixels


def make_backbone() -> nn.Module:
    """In double precision, since rounding would grow in the batch norms of such small maps."""
    torch.manual_seed(0)
    backbone = ResNet(18, base_channels=32, norm_eval=False).double()
    backbone.train()
    mmmutual.make_slimmable_(backbone, (1.0, 0.5, 0.25))
    return backbone


def images_of(rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(2, 3, 64, 64, dtype=torch.double, generator=generator)


def backward(backbone: nn.Module, images: Tensor) -> None:
    for width, size in PASSES:
        mmmutual.set_width(backbone, width)
        sum(maps.square().mean() for maps in backbone(images[:, :, :size, :size])).backward()


def step_process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.distributed.init_process_group('gloo', rank=rank, world_size=PROCESSES)
    backbone, mesh = make_backbone(), init_device_mesh('cpu', (PROCESSES,))
    for part in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4, backbone):
        fully_shard(part, mesh=mesh)
    backward(backbone, images_of(rank))
    torch.optim.SGD(backbone.parameters(), 0.1).step()
    weights = {name: weight.full_tensor() for name, weight in backbone.named_parameters()}
    if rank == 0:
        torch.save(weights, folder / 'weights.pth')
    torch.distributed.destroy_process_group()


def test_shards_learn_from_every_width_and_process(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    mp.spawn(step_process, (port, tmp_path), PROCESSES)
    found = torch.load(tmp_path / 'weights.pth', weights_only=True)
    backbone = make_backbone()
    for rank in range(PROCESSES):
        backward(backbone, images_of(rank))
    for name, weight in backbone.named_parameters():
        torch.testing.assert_close(found[name], weight - 0.1 * weight.grad / PROCESSES)
