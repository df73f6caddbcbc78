"""What each kind of operation does with the ids of channels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmmutual.slimming.channel_ids import ALWAYS, ChannelIds, ids_of, rows, spread
from mmmutual.slimming.trace import Trace

MAP = (2, 6, 4, 4)


class Traced:
    """Operations on maps of six channels each, whose ids are followed."""

    def __init__(self, count: int = 1, shape: tuple[int, ...] = MAP, dim: int = 1) -> None:
        self.ids = ChannelIds()
        self.trace = Trace(self.ids, {}, ())
        self.values = [torch.rand(shape) for _ in range(count)]
        for value in self.values:
            spread(self.ids.new(shape[dim]), value, dim)

    def __call__(self, operation) -> Tensor:
        with self.trace:
            return operation(*self.values)

    @property
    def kept(self) -> list[int]:
        """The channels that never slim."""
        return [
            index for index in range(len(self.ids)) if self.ids.kept()[self.ids.find(torch.tensor([index]).numpy())][0]
        ]


def channels(value: Tensor, dim: int = 1) -> list[int]:
    """The ids along a dimension; it is the same for all other places."""
    found = rows(value, dim)
    assert len(found) == 1
    return found[0].tolist()


ALL = list(range(6))


@pytest.mark.parametrize(
    'operation',
    [
        torch.relu,
        torch.sigmoid,
        lambda x: x + 1,
        lambda x: 2 / x,
        lambda x: x**2,
        lambda x: x.clone().mul_(3),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.gelu(x),
        lambda x: x.half().float(),
        lambda x: x.to(torch.double),
        lambda x: x.type_as(torch.zeros(1)),
        lambda x: x > 0,
        lambda x: x.detach().data,
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.zeros_like(x),
        lambda x: x * torch.rand(4, 4),
        lambda x: x * torch.rand(2, 1, 1, 1),
        lambda x: x.clamp(min=0).contiguous(),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.pad(x, (1, 1, 2, 2)),
        lambda x: F.pad(x, (1, 0, 0, 0, 0, 0)),
        lambda x: F.pad(input=x, pad=(1, 1), value=3.0),
        lambda x: F.pad(x, (2, 2, 2, 2), mode='reflect'),
        lambda x: F.grid_sample(x, torch.zeros(2, 3, 3, 2)),
        lambda x: F.instance_norm(x),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.mean((-1, -2)),
        lambda x: x.amax(dim=3),
        lambda x: x.max(dim=3).values,
        lambda x: x.softmax(-1),
        lambda x: x.cumsum(2),
        lambda x: x.sort(3).values,
        lambda x: x.topk(2, 3).values,
        lambda x: F.normalize(x, dim=2),
        lambda x: x @ torch.rand(4, 3),
        lambda x: torch.rand(5, 4) @ x,
        lambda x: torch.bmm(x.flatten(2), torch.rand(2, 16, 3)),
    ],
)
def test_channels_that_stay(operation):
    traced = Traced()
    assert channels(traced(operation)) == ALL
    assert traced.kept == []


@pytest.mark.parametrize(
    ('operation', 'found'),
    [
        (lambda x: x[:, 2:4], [2, 3]),
        (lambda x: x[:, ::2], [0, 2, 4]),
        (lambda x: x[:, [5, 0]], [5, 0]),
        (lambda x: x[:, -1:], [5]),
        (lambda x: x.chunk(2, 1)[1], [3, 4, 5]),
        (lambda x: x.chunk(2, -3)[0], [0, 1, 2]),
        (lambda x: x.split([1, 5], 1)[1], [1, 2, 3, 4, 5]),
        (lambda x: x.split(2, dim=-3)[2], [4, 5]),
        (lambda x: x.tensor_split(3, 1)[1], [2, 3]),
        (lambda x: x.narrow(1, 1, 2), [1, 2]),
        (lambda x: x.unbind(1)[3][:, None], [3]),
        (lambda x: x.select(1, 4).unsqueeze(1), [4]),
        (lambda x: x.index_select(1, torch.tensor([2, 2])), [2, 2]),
        (lambda x: x.flip(1), [5, 4, 3, 2, 1, 0]),
        (lambda x: x.roll(2, 1), [4, 5, 0, 1, 2, 3]),
        (lambda x: torch.cat((x, x[:, :1]), 1), [*ALL, 0]),
        (lambda x: torch.cat((x, torch.zeros(2, 2, 4, 4)), 1), [*ALL, ALWAYS, ALWAYS]),
        (lambda x: torch.stack((x, x), 2).flatten(1, 2), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (lambda x: torch.stack((x, x), 1).flatten(1, 2), [*ALL, *ALL]),
        (lambda x: x.repeat(1, 2, 1, 1), [*ALL, *ALL]),
        (lambda x: x.repeat_interleave(2, 1), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (lambda x: x.mean((2, 3)).view(2, 3, 2).transpose(1, 2).reshape(2, 6), [0, 2, 4, 1, 3, 5]),
        (lambda x: x[..., :2, :2].flatten(1), [index for index in ALL for _ in range(4)]),
        (lambda x: F.pixel_unshuffle(x[:, :1], 2), [0] * 4),
        (lambda x: x.unfold(1, 2, 2).movedim(-1, 2).flatten(1, 2), ALL),
        (lambda x: F.unfold(x, 2, stride=2), [index for index in ALL for _ in range(4)]),
        (lambda x: F.unfold(input=x[:, [4, 1]], kernel_size=(1, 3)), [4, 4, 4, 1, 1, 1]),
        (lambda x: x.gather(1, torch.ones(2, 1, 4, 4, dtype=torch.long)), [1]),
    ],
)
def test_channels_that_move(operation, found):
    traced = Traced()
    assert channels(traced(operation)) == found
    assert traced.kept == []


def test_channels_that_move_to_another_dimension():
    for operation in (
        lambda x: x.flatten(2).transpose(1, 2),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.movedim(1, -1),
    ):
        traced = Traced()
        assert channels(traced(operation), -1) == ALL
        assert channels(Traced()(lambda x: F.pad(operation(x), (0, 0, 0, 3))), -1) == ALL
    assert channels(Traced()(lambda x: x.flatten(2).mT), -1) == ALL


@pytest.mark.parametrize(
    'operation',
    [
        lambda x: x.softmax(1),
        lambda x: x.flatten(2).transpose(1, 2).softmax(-1),
        lambda x: F.softmax(x, dim=-3),
        lambda x: x.mean(1),
        lambda x: x.mean(),
        lambda x: x.sum((1, 2)),
        lambda x: x.std(),
        lambda x: x.norm(dim=1),
        lambda x: F.normalize(x),
        lambda x: x.argmax(1),
        lambda x: x.max(1).values,
        lambda x: x.cumsum(1),
        lambda x: x.sort(dim=1).values,
        lambda x: x.topk(2, 1).values,
        lambda x: F.glu(x, 1),
        lambda x: F.conv2d(x, torch.rand(3, 6, 1, 1)),
        lambda x: F.linear(x.movedim(1, -1), torch.rand(3, 6)),
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda x: F.group_norm(x, 2),
        lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6)),
        lambda x: F.instance_norm(x, weight=torch.ones(6)),
        lambda x: torch.einsum('nchw,ndhw->nchw', x, x),
        lambda x: x.flatten(2).transpose(1, 2) @ x.flatten(2),
        lambda x: torch.rand(3, 6) @ x.flatten(2),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
        lambda x: F.pad(x.flatten(2).transpose(1, 2), (1, 0)),
        lambda x: F.unfold(x.transpose(1, 2), 2),
        lambda x: torch.renorm(x, 2, 0, 1.0),
        lambda x: x * torch.rand(6, 1, 1),
        lambda x: x.add_(torch.rand(1, 6, 1, 1)),
        lambda x: torch.where(torch.rand(6, 1, 1) > 0.5, x, 0.0),
        lambda x: x.sum().item(),
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: torch.zeros(9)[(x > 2).long()],
    ],
)
def test_channels_that_are_mixed_or_read_never_slim(operation):
    traced = Traced()
    traced(operation)
    assert traced.kept == ALL


def embedded(operation) -> tuple[Traced, Tensor]:
    """An operation on a weight of seven rows, whose columns are channels."""
    traced = Traced(shape=(7, 6), dim=1)
    return traced, traced(operation)


def test_rows_of_an_embedding():
    indices = torch.tensor([[3, 0, 3]])
    for operation in (
        lambda weight: F.embedding(indices, weight),
        lambda weight: F.embedding(input=indices, weight=weight, padding_idx=0),
        lambda weight: weight[indices],
    ):
        traced, rows_of_it = embedded(operation)
        assert rows_of_it.shape == (1, 3, 6) and channels(rows_of_it, -1) == ALL and traced.kept == []


def test_rows_that_channels_choose_or_that_are_normed_never_slim():
    traced, _ = embedded(lambda weight: F.embedding(torch.tensor([1]), weight, max_norm=1.0))
    assert traced.kept == ALL
    traced, _ = embedded(lambda weight: F.embedding(weight.long().clamp(0, 6), weight))
    assert traced.kept == ALL


def test_a_channel_that_others_need():
    traced = Traced()
    assert channels(traced(lambda x: x * x[:, 3:4])) == ALL
    assert traced.kept == [3]


@pytest.mark.parametrize('operation', [torch.add, torch.maximum, lambda x, y: x * y.mean((2, 3), keepdim=True)])
def test_channels_that_meet_slim_together(operation):
    traced = Traced(2)
    traced(operation)
    assert traced.ids.find(torch.arange(12).numpy()).tolist() == [*ALL, *ALL]
    assert traced.kept == []


def test_channels_that_meet_kept_ones_are_kept():
    traced = Traced(2)
    traced(lambda x, y: (x + y) + torch.cat((y[:, :2], torch.zeros(2, 4, 4, 4)), 1))
    assert traced.kept == [2, 3, 4, 5, 8, 9, 10, 11]


def test_writing_into_a_tensor():
    def write(x, y):
        x[:, 4:] = y[:, :2]
        x[:, :1] = 0
        return x

    traced = Traced(2)
    assert channels(traced(write)) == [ALWAYS, 1, 2, 3, 6, 7]

    def into_new(x, y):
        new = x.new_zeros(2, 4, 4, 4)
        new[:, 1:3] = x[:, :2]
        return new

    traced = Traced(2)
    assert channels(traced(into_new)) == [ALWAYS, 0, 1, ALWAYS]

    def copied(x, y):
        return torch.zeros(MAP).copy_(x)

    assert channels(Traced(2)(copied)) == ALL


def test_what_asks_for_sizes_keeps_nothing():
    traced = Traced()
    traced(lambda x: (x.shape, x.size(1), x.dim(), x.device, x.dtype, len(x), x.is_contiguous(), x.new_zeros(3)))
    assert traced.kept == []


def test_tokens_of_several_maps():
    """Rows that differ belong to layers that read both."""
    traced = Traced(2)
    both = traced(lambda x, y: torch.cat((x.flatten(2), y.flatten(2)), 2).transpose(1, 2))
    assert rows(both, -1).tolist() == [ALL, [6, 7, 8, 9, 10, 11]]


def test_an_operation_of_no_channels_gives_none():
    assert ids_of(Traced()(lambda x: torch.rand(3) + 1)) is None
