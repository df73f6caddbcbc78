"""A slimmable layer of every class, of 32 channels, with one segment or two, and a call of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    MultiScaleDeformableAttention,
    SAConv2d,
)
from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.backbones.trident_resnet import TridentConv
from mmdet.models.layers import FrozenBatchNorm2d, SinePositionalEncoding
from mmdet.models.necks.ssd_neck import L2Norm
from torch import Tensor, nn

from mmmutual.layers import Segment, SlimBatchNorm2d, SwitchableBatchNorm2d, slim_layer_

from .masked import randomize

WIDTHS = (1.0, 0.75, 0.5, 0.25)
C = 32
SEGMENTS = {'one segment': (Segment(C),), 'two segments': (Segment(C // 2, 4), Segment(C // 2, 4))}


def maps(channels: int) -> Tensor:
    """Feature maps of two images."""
    return torch.rand(2, channels, 5, 6, generator=torch.Generator().manual_seed(0))


def tokens(channels: int) -> Tensor:
    """Six tokens in each of six windows."""
    return torch.rand(6, 6, channels, generator=torch.Generator().manual_seed(0))


def _of_maps(layer: nn.Module, channels: int) -> object:
    return layer(maps(channels))


def _of_tokens(layer: nn.Module, channels: int) -> object:
    return layer(tokens(channels))


def _of_levels(layer: nn.Module, channels: int) -> object:
    levels = torch.tensor([[3, 2]])
    places = torch.rand(6, 6, 1, 2, generator=torch.Generator().manual_seed(0))
    return layer(tokens(channels), reference_points=places, spatial_shapes=levels, level_start_index=torch.tensor([0]))


Build, Call = Callable[[], nn.Module], Callable[[nn.Module, int], object]
CASES: dict[str, tuple[Build, Call]] = {
    'conv': (lambda: nn.Conv2d(C, C, 3, padding=1), _of_maps),
    'conv 1x1 without bias': (lambda: nn.Conv2d(C, C, 1, bias=False), _of_maps),
    'conv, reflected': (lambda: nn.Conv2d(C, C, 3, padding=1, padding_mode='reflect'), _of_maps),
    'conv, grouped': (lambda: nn.Conv2d(C, C, 3, groups=8), _of_maps),
    'ConvWS': (lambda: ConvWS2d(C, C, 3), _of_maps),
    'ConvAWS': (lambda: ConvAWS2d(C, C, 3), _of_maps),
    'SAC': (lambda: SAConv2d(C, C, 3, padding=1, use_deform=True), _of_maps),
    'adaptive padding': (lambda: Conv2dAdaptivePadding(C, C, 3, stride=2), _of_maps),
    'branches': (lambda: TridentConv(C, C, 3, test_branch_idx=1), lambda layer, c: layer([maps(c)])),
    'DCN with given offsets': (lambda: DeformConv2d(C, C, 3, padding=1), lambda layer, c: layer(maps(c), maps(18))),
    'DCNv2 with given offsets': (
        lambda: ModulatedDeformConv2d(C, C, 3, padding=1),
        lambda layer, c: layer(maps(c), maps(18), maps(9)),
    ),
    'DCN': (lambda: DeformConv2dPack(C, C, 3, padding=1), _of_maps),
    'DCNv2': (lambda: ModulatedDeformConv2dPack(C, C, 3, padding=1), _of_maps),
    'transposed conv': (lambda: nn.ConvTranspose2d(C, C, 2, stride=2), _of_maps),
    'linear': (lambda: nn.Linear(C, C), _of_tokens),
    'batch norm': (lambda: nn.BatchNorm2d(C), _of_maps),
    'batch norm without statistics': (lambda: nn.BatchNorm2d(C, track_running_stats=False), _of_maps),
    'batch norm without weights': (lambda: nn.BatchNorm2d(C, affine=False), _of_maps),
    'synchronised batch norm': (lambda: nn.SyncBatchNorm(C), _of_maps),
    'switchable batch norm': (lambda: SwitchableBatchNorm2d(C, widths=WIDTHS), _of_maps),
    'group norm': (lambda: nn.GroupNorm(8, C), _of_maps),
    'layer norm': (lambda: nn.LayerNorm(C), _of_tokens),
    'frozen batch norm': (lambda: FrozenBatchNorm2d(C), _of_maps),
    'L2 norm': (lambda: L2Norm(C), _of_maps),
    'multi-head attention': (
        lambda: nn.MultiheadAttention(C, 4),
        lambda layer, c: layer(tokens(c), tokens(c), tokens(c)),
    ),
    'window attention': (lambda: WindowMSA(C, 4, (2, 3)), _of_tokens),
    'deformable attention': (lambda: MultiScaleDeformableAttention(C, 4, num_levels=1, num_points=2), _of_levels),
    'position encoding': (
        lambda: SinePositionalEncoding(C // 2),
        lambda layer, c: layer(torch.zeros(2, 5, 6, dtype=torch.bool)),
    ),
}


def build(name: str, segments: str = 'one segment') -> nn.Module:
    """A slimmable layer in evaluation mode, with random weights and statistics at each width."""
    layer = CASES[name][0]()
    runs = SEGMENTS[segments]
    slim_layer_(layer, WIDTHS, None if name == 'position encoding' else runs, runs)
    randomize(layer)
    if isinstance(layer, ConvAWS2d):
        layer.weight_gamma.abs_().add_(0.5)  # it computes others when it loads a mean that is not positive
    if isinstance(layer, SlimBatchNorm2d) and layer.track_running_stats:
        for width in WIDTHS:
            layer.set_statistics(width, torch.rand(C), torch.rand(C) + 0.5)
    return layer.eval()


def call(name: str, layer: nn.Module, segments: str = 'one segment') -> object:
    """The output of a layer at its width, for the active channels."""
    return CASES[name][1](layer, sum(segment.active(layer.width) for segment in SEGMENTS[segments]))
