"""Operations between two layers: the narrow network is the full one with some channels absent, whatever they do."""

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from torch import Tensor

from tests.support.toy_detector import CHANNELS, SIZE, Mean, Net, between, maps, shuffle, slimming, tokens


def cached(net: Net, x: Tensor) -> Tensor:
    """A positional encoding that is made once."""
    if not hasattr(net, 'encoding'):
        net.encoding = torch.linspace(0, 1, x.size(1), dtype=x.dtype)[:, None, None]
    return x + net.encoding


def cached_by_shape(net: Net, x: Tensor) -> Tensor:
    """A positional encoding that is made anew for another number of channels."""
    return x + torch.linspace(0, 1, x[0].numel(), dtype=x.dtype).view_as(x[0])


def through_a_view(x: Tensor) -> Tensor:
    x = x.clone()
    x.chunk(2, 1)[0].copy_(x.chunk(2, 1)[1].clone())
    return x


def into_a_buffer(x: Tensor) -> Tensor:
    new = x.new_zeros(len(x), 64, SIZE, SIZE)
    new.narrow(1, 64 - x.size(1), x.size(1)).copy_(x)
    return new


def pad_to(x: Tensor, front: bool) -> Tensor:
    missing = 48 - x.size(1)
    return F.pad(x, (0, 0, 0, 0, missing, 0) if front else (0, 0, 0, 0, 0, missing))


MIXING = {
    'chunk of a negative dimension': (lambda net, x: x.chunk(2, -3)[1] + x[:, 16:24].mean(), 16),
    'split': (lambda net, x: x.split([8, 24], 1)[1], 24),
    'narrow': (lambda net, x: x.narrow(-3, 12, 8), 8),
    'steps': (lambda net, x: x[:, ::2], 16),
    'last': (lambda net, x: x[:, -8:], 8),
    'unbind': (lambda net, x: x.unbind(1)[-1][:, None], 1),
    'index_select': (lambda net, x: x.index_select(1, torch.arange(CHANNELS - 1, -1, -1)), CHANNELS),
    'index': (lambda net, x: x[:, [1, 0, 3, 20]], 4),
    'gather': (lambda net, x: x.gather(1, torch.full_like(x[:, :8], 20, dtype=torch.long)), 8),
    'glu': (lambda net, x: F.glu(x, 1), 16),
    'glu of the last dimension': (lambda net, x: maps(F.glu(tokens(x))), 16),
    'flip': (lambda net, x: x.flip(1)[:, :16], 16),
    'odd ones first': (lambda net, x: torch.cat((x[:, 1::2], x[:, ::2]), 1), CHANNELS),
    'written through a view': (lambda net, x: through_a_view(x), CHANNELS),
    'shuffle': (lambda net, x: shuffle(x), CHANNELS),
    'softmax': (lambda net, x: x.softmax(1), CHANNELS),
    'softmax of the last dimension': (lambda net, x: maps(tokens(x).softmax(-1)), CHANNELS),
    'mean': (lambda net, x: x.mean(1, keepdim=True), 1),
    'gate by a mean': (lambda net, x: x * x.mean(1, keepdim=True).sigmoid(), CHANNELS),
    'gate by a channel': (lambda net, x: x * x[:, 20:21].sigmoid(), CHANNELS),
    'amax': (lambda net, x: x.amax(1, keepdim=True), 1),
    'argmax': (lambda net, x: x + x.argmax(1, keepdim=True), CHANNELS),
    'detached': (lambda net, x: x.detach().data.flip(1).roll(1, 1), CHANNELS),
    'sort': (lambda net, x: x.sort(1).values, CHANNELS),
    'choice by values': (lambda net, x: x[:, x.mean((0, 2, 3)).topk(8).indices], 8),
    'cumsum': (lambda net, x: x.flip(1).cumsum(1), CHANNELS),
    'layer norm': (lambda net, x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1), CHANNELS),
    'group norm': (lambda net, x: F.group_norm(x, 2), CHANNELS),
    'local response norm': (lambda net, x: F.local_response_norm(x, 3), CHANNELS),
    'einsum': (lambda net, x: torch.einsum('nchw,ndhw->nchw', x, x), CHANNELS),
    'gain of a fixed size': (lambda net, x: x * torch.arange(CHANNELS)[:, None, None], CHANNELS),
    'view of a fixed size': (lambda net, x: x.view(len(x), CHANNELS, SIZE, SIZE), CHANNELS),
    'heads with gains': (
        lambda net, x: (x.unflatten(1, (4, -1)) * torch.arange(1, 5.0)[:, None, None, None]).flatten(1, 2),
        CHANNELS,
    ),
    'padded': (lambda net, x: F.pad(x, (0, 0, 0, 0, 0, 8)), CHANNELS + 8),
    'padded to a size': (lambda net, x: pad_to(x, front=False), 48),
    'padded to a size in front': (lambda net, x: pad_to(x, front=True), 48),
    'every second': (lambda net, x: x * (torch.arange(x.size(1)) % 2)[:, None, None], CHANNELS),
    'number of channels': (lambda net, x: x / x.size(1), CHANNELS),
    'branch': (lambda net, x: x if x.size(1) > 20 else 2 * x, CHANNELS),
    'value': (lambda net, x: x * float(x.amax()), CHANNELS),
    'norm of all': (lambda net, x: x / x.norm(), CHANNELS),
    'numpy': (lambda net, x: torch.from_numpy(x.numpy()[:, ::-1].copy()), CHANNELS),
    'transform': (lambda net, x: torch.fft.fft(x, dim=1).real, CHANNELS),
    'vmap': (lambda net, x: torch.vmap(lambda each: each * each.mean(0))(x), CHANNELS),
    'function': (lambda net, x: x * Mean.apply(x), CHANNELS),
    'function of one channel': (lambda net, x: Mean.apply(x), 1),
    'through a view': (lambda net, x: through_a_view(x) + x, CHANNELS),
    'into a buffer': (lambda net, x: into_a_buffer(x), 64),
    'written': (lambda net, x: torch.index_fill(x, 1, torch.tensor([3]), 0.0), CHANNELS),
    'cached encoding': (cached, CHANNELS),
    'encoding by shape': (cached_by_shape, CHANNELS),
    'attention of channels': (lambda net, x: (x.flatten(2) @ tokens(x) @ x.flatten(2)).view_as(x), CHANNELS),
    'scaled dot product': (lambda net, x: maps(F.scaled_dot_product_attention(*[tokens(x)] * 3)), CHANNELS),
    'checkpointed': (lambda net, x: cp.checkpoint(shuffle, x, use_reentrant=False), CHANNELS),
    'checkpointed, reentrant': (lambda net, x: cp.checkpoint(shuffle, x, use_reentrant=True), CHANNELS),
}
ONE_BY_ONE = {
    'relu': (lambda net, x: x.relu(), CHANNELS),
    'in place': (lambda net, x: x.mul_(2).relu_(), CHANNELS),
    'gate': (lambda net, x: x * x.sigmoid(), CHANNELS),
    'pool': (lambda net, x: F.max_pool2d(x, 3, 1, 1), CHANNELS),
    'gate by a mean over pixels': (lambda net, x: x * x.mean((2, 3), keepdim=True).sigmoid(), CHANNELS),
    'resize': (lambda net, x: F.interpolate(x, scale_factor=2, mode='bilinear'), CHANNELS),
    'flip of pixels': (lambda net, x: x.flip(-1), CHANNELS),
    'cut of pixels': (lambda net, x: x[..., 1:], CHANNELS),
    'softmax of pixels': (lambda net, x: x.flatten(2).softmax(-1).view_as(x), CHANNELS),
    'tokens and back': (lambda net, x: maps(tokens(x).relu() + tokens(x).mean(1, keepdim=True)), CHANNELS),
    'view': (lambda net, x: x.view(x.size(0), x.size(1), -1).view_as(x), CHANNELS),
    'channels last': (lambda net, x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), CHANNELS),
    'cat': (lambda net, x: torch.cat((x, x.sigmoid()), 1), 2 * CHANNELS),
    'cat of pixels': (lambda net, x: torch.cat((x, -x), 2), CHANNELS),
    'halves': (lambda net, x: x.chunk(2, 1)[1] * x.chunk(2, -3)[0], 16),
    'pixel shuffle': (lambda net, x: F.pixel_shuffle(x, 2), CHANNELS // 4),
    'flattened': (lambda net, x: F.adaptive_avg_pool2d(x, 2).flatten(1)[..., None, None], 4 * CHANNELS),
    'products of pixels': (lambda net, x: (x.flatten(2) @ torch.eye(16, dtype=x.dtype).cumsum(0)).view_as(x), CHANNELS),
    'cut of the last dimension': (lambda net, x: maps(tokens(x)[..., 16:]), 16),
    'roll': (lambda net, x: x.roll(8, 1), CHANNELS),
    'reshape': (lambda net, x: x.transpose(1, 2).reshape(x.shape), CHANNELS),
    'instance norm': (lambda net, x: F.instance_norm(x), CHANNELS),
    'transform of pixels': (lambda net, x: x - x.cumsum(-1), CHANNELS),
    'dictionary': (lambda net, x: {'x': x}['x'].abs(), CHANNELS),
    'checkpointed': (lambda net, x: cp.checkpoint(torch.tanh, x, use_reentrant=False), CHANNELS),
    'checkpointed, reentrant': (lambda net, x: cp.checkpoint(torch.tanh, x, use_reentrant=True), CHANNELS),
}


@pytest.mark.parametrize('kind', MIXING)
def test_channels_that_are_mixed_or_counted_are_always_there(kind):
    assert slimming(between(*MIXING[kind])) == {'backbone'}


@pytest.mark.parametrize('kind', ONE_BY_ONE)
def test_channels_that_are_treated_one_by_one_slim(kind):
    assert slimming(between(*ONE_BY_ONE[kind])) == {'backbone', 'first'}
