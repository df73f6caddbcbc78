"""Heads whose operations mix channels: a narrow network must be the full one with fewer channels, whatever they do."""

import copy
import random
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimConv2d
from mmmutual.models.dry_run import run_levels
from mmmutual.models.self_check import differences

CHANNELS, ACTIVE = 32, 16


class Toy(nn.Module):
    """A backbone of one convolution, and a head of two layers with operations between them."""

    def __init__(self, between, outputs: int, tokens: bool = False) -> None:
        super().__init__()
        layer = nn.Linear if tokens else lambda *sizes: nn.Conv2d(*sizes, 1)
        self.backbone = nn.Conv2d(3, 16, 3, stride=8, padding=1)
        self.first, self.last = layer(16, CHANNELS), layer(outputs, 4)
        self.gain = nn.Parameter(torch.rand(CHANNELS) + 0.5)
        self.between, self.tokens = between, tokens

    def head(self, maps):
        if self.tokens:
            maps = maps.flatten(2).transpose(1, 2)
        return self.last(self.between(self, self.first(maps)))

    def forward(self, images, samples=None, mode='tensor'):
        return self.head(self.backbone(images))


def shuffle(x, groups=4):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def attend(x):
    tokens = x.flatten(2)
    return (tokens @ tokens.transpose(1, 2) @ tokens).view_as(x)


MIXING = {
    'chunk': (lambda net, x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1], 16),
    'chunk of a negative dimension': (lambda net, x: x.chunk(2, -3)[1], 16),
    'split': (lambda net, x: x.split([8, 24], 1)[1], 24),
    'narrow': (lambda net, x: x.narrow(-3, 12, 8), 8),
    'slice with steps': (lambda net, x: x[:, ::2], 16),
    'slice from the end': (lambda net, x: x[:, -8:], 8),
    'unbind': (lambda net, x: x.unbind(1)[-1][:, None], 1),
    'index_select': (lambda net, x: x.index_select(1, torch.arange(CHANNELS - 1, -1, -1)), CHANNELS),
    'index': (lambda net, x: x[:, [1, 0, 3, 20]], 4),
    'gather': (lambda net, x: x.gather(1, torch.full_like(x[:, :8], 20, dtype=torch.long)), 8),
    'glu': (lambda net, x: F.glu(x, 1), 16),
    'flip': (lambda net, x: x.flip(1), CHANNELS),
    'roll': (lambda net, x: x.roll(1, 1), CHANNELS),
    'shuffle': (lambda net, x: shuffle(x), CHANNELS),
    'reshape': (lambda net, x: x.transpose(1, 2).reshape(x.shape), CHANNELS),
    'softmax': (lambda net, x: x.softmax(1), CHANNELS),
    'mean': (lambda net, x: x.mean(1, keepdim=True), 1),
    'gate by a mean': (lambda net, x: x * x.mean(1, keepdim=True).sigmoid(), CHANNELS),
    'maximum': (lambda net, x: x.amax(1, keepdim=True), 1),
    'argmax': (lambda net, x: F.one_hot(x.argmax(1), 4 * CHANNELS)[..., 0].float()[:, None] + x, CHANNELS),
    'detached': (lambda net, x: x.detach().flip(1), CHANNELS),
    'sort': (lambda net, x: x.sort(1).values, CHANNELS),
    'cumsum from the end': (lambda net, x: x.flip(1).cumsum(1), CHANNELS),
    'normalize': (lambda net, x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1), CHANNELS),
    'group norm': (lambda net, x: F.group_norm(x, 2), CHANNELS),
    'attention': (lambda net, x: attend(x), CHANNELS),
    'einsum': (lambda net, x: torch.einsum('nchw,ndhw->nchw', x, x), CHANNELS),
    'cat': (lambda net, x: torch.cat((x, x), 1), 2 * CHANNELS),
    'cat of pixels': (lambda net, x: torch.cat((x, x.flip(1)), 2), CHANNELS),
    'gain of fixed size': (lambda net, x: x * net.gain[:, None, None], CHANNELS),
    'view of fixed size': (lambda net, x: x.view(len(x), CHANNELS, 8, 8), CHANNELS),
}
ONE_BY_ONE = {
    'relu': lambda x: x.relu(),
    'gate': lambda x: x * x.sigmoid(),
    'pool': lambda x: F.max_pool2d(x, 3, 1, 1),
    'gate by a mean over pixels': lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    'interpolate': lambda x: F.interpolate(x, scale_factor=2, mode='bilinear'),
    'flip of pixels': lambda x: x.flip(-1),
    'roll of pixels': lambda x: x.roll(1, 2),
    'cut of pixels': lambda x: x[..., 1:],
    'tokens and back': lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).view_as(x),
    'in place': lambda x: x.mul_(2).relu_(),
}


@torch.no_grad()
def check(model: Toy) -> bool:
    """Assert that the narrow head is the full one with some channels of its first layer; whether these are fewer."""
    torch.manual_seed(0)
    model.eval()
    mmmutual.make_slimmable_(model, (1.0, 0.5), slim='detector')
    maps = torch.randn(2, 16, 8, 8)
    maps[:, 8:] = 0
    with mmmutual.use_width(model, 0.5):
        narrow = model.head(maps[:, :8])
    slim = model.first.slim_out
    keep = torch.ones(CHANNELS)
    keep[ACTIVE:] = not slim
    keep = keep if model.tokens else keep[:, None, None]
    with model.first.register_forward_hook(lambda layer, args, out: out * keep):
        full = model.head(maps)
    torch.testing.assert_close(narrow, full, atol=1e-5, rtol=1e-4)
    return slim


@pytest.mark.parametrize('kind', MIXING)
def test_what_is_mixed_is_complete(kind):
    assert not check(Toy(*MIXING[kind]))


@pytest.mark.parametrize('kind', ONE_BY_ONE)
def test_channels_that_are_treated_one_by_one_slim(kind):
    assert check(Toy(lambda net, x: ONE_BY_ONE[kind](x), CHANNELS))


@pytest.mark.parametrize(
    ('between', 'outputs'),
    [
        (lambda net, x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1], 16),
        (lambda net, x: F.glu(x), 16),
        (lambda net, x: x[..., 16:], 16),
        (lambda net, x: x.unflatten(-1, (4, -1)).flip(2).flatten(2), CHANNELS),
        (lambda net, x: (x @ x.transpose(1, 2)).softmax(-1) @ x, CHANNELS),
    ],
)
def test_tokens_whose_features_are_mixed(between, outputs):
    assert not check(Toy(between, outputs, tokens=True))


def test_tokens_that_are_treated_one_by_one_slim():
    assert check(Toy(lambda net, x: x.relu() + x.mean(1, keepdim=True), CHANNELS, tokens=True))


@pytest.mark.parametrize('seed', range(12))
def test_operations_drawn_at_random(seed):
    """Some treat channels one by one, one perhaps mixes them at the end: the narrow head is right in any case."""
    draw = random.Random(seed)
    chain = [ONE_BY_ONE[name] for name in draw.choices(sorted(ONE_BY_ONE), k=draw.randint(1, 3))]
    mixes, outputs = draw.choice([*MIXING.values(), (lambda net, x: x, CHANNELS)])

    def between(net, x):
        for operation in chain:
            x = operation(x)
        return mixes(net, x)

    check(Toy(between, outputs))


@pytest.mark.parametrize(
    'between',
    [torch.sigmoid, torch.cos, lambda x: x.softmax(1), lambda x: x.cumsum(2)],
    ids=['sigmoid', 'cos', 'softmax over tokens', 'sums'],
)
def test_what_is_no_zero_at_zero_slims_as_in_a_narrow_stock_network(between):
    """The missing channels are none that the operation gets: they are zero behind it."""
    model = Toy(lambda net, x: between(x), CHANNELS, tokens=True).eval()
    mmmutual.make_slimmable_(model, (1.0, 0.5), slim='detector')
    first, last = nn.Linear(8, ACTIVE), nn.Linear(ACTIVE, 4)
    for stock, layer in ((first, model.first), (last, model.last)):
        rows, columns = stock.weight.shape
        stock.weight.data, stock.bias.data = layer.weight.data[:rows, :columns], layer.bias.data[:rows]
    maps = torch.randn(2, 8, 8, 8)
    mmmutual.set_width(model, 0.5)
    torch.testing.assert_close(model.head(maps), last(between(first(maps.flatten(2).transpose(1, 2)))))


class Levels(nn.Module):
    """A detector whose head reads flattened maps."""

    def __init__(self, neck: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone, self.neck = nn.Conv2d(3, 16, 3, stride=8, padding=1), neck
        self.bbox_head = nn.Sequential(OrderedDict(fc=nn.Linear(channels * 49, 40), out=nn.Linear(40, 4)))

    def extract_feat(self, images):
        return (self.neck(self.backbone(images)),)

    def forward(self, images, samples=None, mode='tensor'):
        pooled = F.adaptive_avg_pool2d(self.extract_feat(images)[0], 7)
        return self.bbox_head(pooled.flatten(1))


@pytest.mark.parametrize('slim', ['backbone', 'detector'])
@pytest.mark.parametrize('neck', [SlimConv2d(16, 48, 1), nn.Conv2d(16, 48, 1)])
def test_flattened_maps_of_rounded_channels(neck, slim):
    """48 channels at width 0.25 are 16, so 784 of 2352 features: 588 would be a quarter of them."""
    model = Levels(copy.deepcopy(neck), 48)
    if slim == 'backbone' and isinstance(neck, SlimConv2d):
        with pytest.raises(ValueError, match=r'its layer bbox_head\.fc \(Linear\) does not take .* width 0.25'):
            mmmutual.make_slimmable_(model, (1.0, 0.25), slim=slim)
        return
    mmmutual.make_slimmable_(model, (1.0, 0.9, 0.25), slim=slim)
    for width in (0.9, 0.25):
        mmmutual.set_width(model, width)
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 4)


@pytest.mark.parametrize('mixes', [True, False])
def test_a_head_behind_no_neck_that_mixes_channels_is_refused(mixes):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(32, 4, 1)

        def forward(self, maps):
            return self.conv(shuffle(maps) if mixes else maps.relu())

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.bbox_head = nn.Conv2d(3, 32, 3), Head()

        def extract_feat(self, images):
            return (self.backbone(images),)

        def forward(self, images, samples=None, mode='tensor'):
            return self.bbox_head(self.extract_feat(images)[0])

    if not mixes:
        mmmutual.make_slimmable_(Detector(), (1.0, 0.5))
        return
    with pytest.raises(
        ValueError, match=r'its layer bbox_head\.conv \(SlimConv2d\) .*an operation before it cuts, mixes'
    ):
        mmmutual.make_slimmable_(Detector(), (1.0, 0.5))


def test_a_neck_behind_a_level_of_other_multiples_is_told():
    """96 channels in multiples of 24 are 48 at width 0.3, in multiples of 8 they would be 32."""

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck = SlimConv2d(3, 96, 3), nn.Conv2d(96, 8, 1)
            self.backbone.divide(outputs=[Segment(96, 24)])

        def extract_feat(self, images):
            return (self.neck(self.backbone(images)),)

    model = Detector()
    mmmutual.make_slimmable_(model, (1.0, 0.3))
    mmmutual.set_width(model, 0.3)
    assert model.backbone(torch.rand(1, 3, 8, 8)).size(1) == 48
    assert model.extract_feat(torch.rand(1, 3, 8, 8))[0].size(1) == 8


def test_whole_groups_are_checked_at_every_width():
    """0.75 and 0.5 keep whole groups of 16 channels, 0.6 does not."""
    backbone = nn.Sequential(nn.Conv2d(3, 64, 3), nn.GroupNorm(4, 64), nn.Conv2d(64, 64, 3))
    with pytest.raises(ValueError, match=r'does not take the channels of a network of width 0.6 .*Choose num_groups'):
        mmmutual.make_slimmable_(backbone, (1.0, 0.75, 0.6, 0.5))
    mmmutual.make_slimmable_(backbone, (1.0, 0.75, 0.5))


def test_flattened_maps_and_whole_groups_slim():
    """The next layer is told of what its input is a multiple."""
    model = Toy(lambda net, x: F.adaptive_avg_pool2d(F.relu(x), 2).flatten(1), CHANNELS)
    model.last = nn.Linear(CHANNELS * 4, 4)
    mmmutual.make_slimmable_(model.eval(), (1.0, 0.3), slim='detector')
    mmmutual.set_width(model, 0.3)
    assert model.head(torch.rand(1, 8, 8, 8)).shape == (1, 4)


def test_a_backbone_that_mixes_channels_is_refused_and_left_as_it_was():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)

        def forward(self, x):
            return (self.two(shuffle(self.one(x))),)

    model = Backbone()
    with pytest.raises(
        ValueError, match=r'Backbone cannot slim: its layer two \(SlimConv2d\) .*an operation before it cuts'
    ):
        mmmutual.make_slimmable_(model, (1.0, 0.5))
    assert type(model.one) is type(model.two) is nn.Conv2d


def test_the_check_draws_no_random_numbers_and_leaves_no_hooks():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3))
    mmmutual.make_slimmable_(model, (1.0, 0.5))
    model.train()
    state = torch.get_rng_state()
    assert differences(model, (1.0, 0.5), run_levels) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and mmmutual.get_width(model) == 1.0 and model[1].num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_checkpointed_parts_slim_as_others():
    """Their layers run without gradients, so they would not be seen."""
    import torch.utils.checkpoint as cp

    class Checkpointed(Toy):
        with_cp = False

        def head(self, maps):
            features = cp.checkpoint(self.first, maps, use_reentrant=True) if self.with_cp else self.first(maps)
            return self.last(features)

    for with_cp in (False, True):
        model = Checkpointed(None, CHANNELS)
        model.with_cp = with_cp
        mmmutual.make_slimmable_(model, (1.0, 0.5), slim='detector')
        assert model.first.slim_out
        assert model.with_cp == with_cp
