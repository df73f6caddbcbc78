"""Pieces of the backbones' tests: arguments, norms as after a training, a pass forward and back."""

import copy

import torch
from torch import nn

import mmmutual
from tests.support.narrow import assert_same_gradients, carry_weights

GN = dict(type='GN', num_groups=16, requires_grad=True)
PIECES = {r'layer\d\.\d\.(conv|bn)1\.': (4, 1), r'\.conv3\.': (1, 4)}  # of Res2Net: layers whose channels are split


class OwnConv2d(nn.Conv2d):
    """It has no slimmable counterpart, as a subclass may do more than its base."""


def randomize_norms(model: nn.Module) -> None:
    """Affine parameters and statistics as after a training, so that no channel is dead or trivial."""
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
        for name, buffer in layer.named_buffers(recurse=False):
            if 'tracked' in name:
                buffer.fill_(7)
            elif 'relative' not in name:  # the places of a window
                nn.init.uniform_(buffer, 0.5, 1.5) if 'var' in name else nn.init.normal_(buffer, std=0.1)


def run(model: nn.Module, x: torch.Tensor, training: bool = True) -> list[torch.Tensor]:
    model.train(training)
    outs = model(x)
    sum(out.square().mean() for out in outs).backward()
    return [out.detach() for out in outs]


def hrnet_stages(width: float = 1.0) -> dict:
    """Two modules in the second stage, one in the others, with one block for each branch."""
    branches = {1: (64,), 2: (32, 64), 3: (32, 64, 128), 4: (32, 64, 128, 256)}
    return {
        f'stage{stage}': dict(
            num_modules=2 if stage == 2 else 1,
            num_branches=len(channels),
            block='BOTTLENECK' if stage == 1 else 'BASIC',
            num_blocks=(1,) * len(channels),
            num_channels=tuple(int(width * count) for count in channels),
        )
        for stage, channels in branches.items()
    }


def regnet(width: float = 1.0) -> dict:
    return dict(w0=int(32 * width), wa=32 * width, wm=2.0, group_w=8, depth=6, bot_mul=1.0)


def assert_narrow_is_stock(slim: nn.Module, narrow: nn.Module, parts: dict, width: float, training: bool) -> None:
    """A backbone at a width computes, learns and counts as the stock backbone that is built narrow."""
    mmmutual.set_width(slim, width)
    carry_weights(slim, narrow, parts)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(run(slim, x, training), run(narrow, x, training), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert_same_gradients(slim, narrow, parts)
    after = copy.deepcopy(narrow)
    carry_weights(slim, after, parts)  # the running statistics that training updated
    for name, value in after.state_dict().items():
        torch.testing.assert_close(value, narrow.state_dict()[name], msg=lambda m, name=name: f'{name}: {m}')
