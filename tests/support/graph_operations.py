"""Operations on maps (N, C, 4, 4) for random graphs: those that treat channels one by one, and those that mix them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SPATIAL = 4  # pixels of a map, of an image of 64


class Flip(torch.autograd.Function):
    """An operation that nobody follows."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy()[:, ::-1].copy())


@torch.jit.script
def scripted_mean(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def maps(x: Tensor) -> Tensor:
    return x.transpose(1, 2).unflatten(2, (SPATIAL, SPATIAL))


def shuffle(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def attend(x: Tensor) -> Tensor:
    own = tokens(x)
    return maps((own @ own.transpose(1, 2) / 16).softmax(-1) @ own)


def write(x: Tensor, count: int) -> Tensor:
    x = x.clone()
    x[:, :count] = x[:, -count:].clone()
    return x


def written_into_new(x: Tensor) -> Tensor:
    new = x.new_zeros(x.size(0), 2 * x.size(1), *x.shape[2:])
    new[:, 1::2] = x
    return new


def written_through_a_view(x: Tensor, y: Tensor) -> Tensor:
    new = x.clone()
    new.chunk(2, 1)[0].copy_(y.chunk(2, 1)[1])
    return new


# Operations on one map (N, C, H, W) that treat channels one by one.
FINE: dict[str, Callable[[Tensor], Tensor]] = {
    'relu': lambda x: F.relu(x.clone(), inplace=True),
    'sigmoid': torch.sigmoid,
    'gate': lambda x: x * x.sigmoid(),
    'gate of pools': lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    'pool': lambda x: F.max_pool2d(x, 3, 1, 1),
    'mean of rows': lambda x: x - x.mean(dim=-1, keepdim=True),
    'softmax over pixels': lambda x: maps(tokens(x).softmax(1)),
    'sums': lambda x: x.cumsum(-1),
    'roll of pixels': lambda x: x.roll(1, 2),
    'flip of channels': lambda x: x.flip(1),
    'twice': lambda x: torch.cat((x, x), 1),
    'stack': lambda x: torch.stack((x, -x), 2).flatten(1, 2),
    'resize': lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2),
    'pad': lambda x: F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1],
    'where': lambda x: torch.where(x > 0, x, x.new_zeros(())),
    'maximum': lambda x: torch.maximum(x, -x),
    'last': lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    'normed': lambda x: F.normalize(x, dim=-1),
    'product of pixels': lambda x: maps(torch.full((16, 16), 0.1, dtype=x.dtype).triu() @ tokens(x)),
    'in place': lambda x: x.clone().mul_(2).add_(1),
    'half': lambda x: x[:, : x.size(1) // 2],
    'chunks': lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1],
    'chunks from the end': lambda x: x.chunk(2, -3)[1],
}
# Operations that mix channels, count them, or are not known.
MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    'mean': lambda x: x * x.mean(1, keepdim=True),
    'amax': lambda x: x - x.amax(1, keepdim=True),
    'softmax': lambda x: x.softmax(1),
    'softmax of the last': lambda x: maps(tokens(x).softmax(-1)),
    'shuffle': lambda x: shuffle(x, 4),
    'shuffle by two': lambda x: shuffle(x, x.size(1) // 2),
    'glu': lambda x: F.glu(x, 1),
    'glu of the last': lambda x: maps(F.glu(tokens(x))),
    'first 16': lambda x: x[:, :16],
    'last 8': lambda x: x[:, -8:],
    'steps': lambda x: x[:, ::2],
    'hard split': lambda x: x.split([8, x.size(1) - 8], 1)[1],
    'hard split of 8': lambda x: sum(x.split(8, 1)),
    'narrow': lambda x: x.narrow(-3, 8, 8),
    'tokens cut': lambda x: maps(tokens(x)[..., 8:16]),
    'unbind': lambda x: torch.stack(x.unbind(1)[4:12], 1),
    'select': lambda x: x * x[:, 3:4],
    'choice': lambda x: x.index_select(1, torch.tensor([3, 1, 0, 9, 15, 2, 8, 12])),
    'rolled': lambda x: x.roll(1, 1),
    'sorted': lambda x: x.sort(1).values,
    'cumsum': lambda x: x.flip(1).cumsum(1),
    'attention': attend,
    'einsum': lambda x: torch.einsum('nchw,ndhw->nchw', x, x) / 64,
    'group_norm': lambda x: F.group_norm(x, 4),
    'layer_norm': lambda x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1),
    'local response': lambda x: F.local_response_norm(x, 3),
    'normalize': lambda x: F.normalize(x),
    'reshape': lambda x: x.transpose(1, 2).reshape(x.shape),
    'function': Flip.apply,
    'function of a mean': lambda x: x * scripted_mean(x),
    'written': lambda x: write(x, 8),
    'written half': lambda x: write(x, x.size(1) // 2),
    'into new': written_into_new,
    'padded': lambda x: F.pad(x, (0, 0, 0, 0, 0, 8)),
    'padded in front': lambda x: F.pad(x, (0, 0, 0, 0, 8, 0)),
    'by values': lambda x: x * float(x.amax()),
    'by sorting': lambda x: x[:, x.mean((0, 2, 3)).argsort()],
    'out': lambda x: torch.mul(x, 2, out=torch.empty_like(x)).flip(1),
}


# Operations on two maps of as many channels.
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'add': torch.add,
    'add in place': lambda x, y: x.clone().add_(y),
    'gate of two': lambda x, y: x * y.sigmoid(),
    'maximum of two': torch.maximum,
    'through a view': written_through_a_view,
}
