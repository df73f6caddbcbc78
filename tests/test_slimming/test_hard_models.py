"""What people write in models: a narrow network is the full one with some channels absent, whatever they do."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from masked import WIDTHS, assert_narrow_is_masked, randomize
from torch import Tensor, nn

import mmmutual
from mmmutual.slimming import plan_slimming

CHANNELS, SIZE = 32, 4


class Net(nn.Module):
    """A detector whose backbone is one convolution; the head is given as a function.

    Args:
        head: Called with the model and the map (N, 32, 4, 4) of the backbone.
        **layers: The layers of the head.
    """

    def __init__(self, head, **layers) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, CHANNELS, 3, stride=16, padding=1)
        self.head = head
        for name, layer in layers.items():
            setattr(self, name, layer)

    def extract_feat(self, images):
        return (self.backbone(images),)

    def forward(self, images, samples=None, mode='tensor'):
        return self.head(self, self.backbone(images))


def conv(inputs: int = CHANNELS, outputs: int = CHANNELS, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, **options)


def between(operation, outputs: int = CHANNELS, **layers) -> Net:
    """An operation between two convolutions."""
    return Net(lambda net, x: net.last(operation(net, net.first(x))), first=conv(), last=conv(outputs, 4), **layers)


def slimming(model: nn.Module, scope: str = 'detector') -> set[str]:
    """The layers whose outputs slim, after the narrow networks were found right at all widths."""
    model = model.double().eval()
    if not any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        randomize(model)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
    plan = plan_slimming(model, scope)
    plan.apply_(WIDTHS)
    with torch.no_grad():
        assert torch.equal(model(images), expected)
    assert_narrow_is_masked(model, lambda net: net(images))
    return {layer.name for layer in plan.layers if layer.slims_out}


class Mean(torch.autograd.Function):
    """No operation of torch."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy().mean(1, keepdims=True))


class Attention(nn.Module):
    """Attention of several heads, written by hand."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fixed = conv(outputs=3 * CHANNELS), conv(), fixed

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        size = 8 if self.fixed else -1
        heads = self.qkv(x).flatten(2).transpose(1, 2).reshape(batch, height * width, 3, 4, size)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / 3).softmax(-1)
        return self.out((weights @ value).transpose(2, 3).reshape(batch, -1, height, width))


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


def shuffle(x: Tensor, groups: int = 4) -> Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def maps(x: Tensor) -> Tensor:
    return x.transpose(1, 2).unflatten(2, (SIZE, SIZE))


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


def test_mixing_right_behind_the_backbone_leaves_nothing_that_slims():
    for scope in ('backbone', 'detector'):
        with pytest.raises(ValueError, match='Conv2d cannot slim: softmax mixes channels, or may do so'):
            plan_slimming(Net(lambda net, x: net.last(x.softmax(1)), last=conv()), scope)


@pytest.mark.parametrize('fixed', [True, False])
def test_own_attention(fixed):
    """It divides its channels among heads, with their number or with -1; its values could slim with one head only."""
    model = Net(lambda net, x: net.last(net.attention(x)), attention=Attention(fixed), last=conv(outputs=4))
    assert slimming(model) == {'backbone', 'attention.out'}


def test_linear_attention_of_pixels():
    """What weighs the pixels is complete, the values slim."""

    def head(net, x):
        weights = (tokens(net.query(x)) @ net.query(x).flatten(2)).softmax(-1)
        return net.last((net.value(x).flatten(2) @ weights).view_as(x[:, :1].expand(-1, net.value(x).size(1), -1, -1)))

    assert slimming(Net(head, query=conv(), value=conv(), last=conv(outputs=4))) == {'backbone', 'value'}


def test_hooks_of_others_see_the_narrow_network():
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: output * output.mean(1, keepdim=True))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: shuffle(output))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.last.register_forward_pre_hook(lambda layer, args: (shuffle(args[0]),))
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x)
    model.first.register_forward_hook(lambda layer, args, output: output.relu())
    assert slimming(model) == {'backbone', 'first'}


def test_a_forward_that_was_replaced_stays():
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv(outputs=4))
    second = model.second
    second.forward = lambda x: F.conv2d(x, second.weight).flip(1)
    assert plan_slimming(model, 'detector').layers[2].reason == 'Conv2d takes all of its channels'
    assert [layer.slims_out for layer in plan_slimming(model, 'detector').layers] == [True, False, False, False]


def test_weights_that_are_made_in_each_forward():
    """The older functions keep the class of the layer, and hooks make its weight; the newer ones make a class."""
    for norm in (torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm):
        model = between(lambda net, x: x)
        norm(model.first)
        assert slimming(model) == {'backbone', 'first'}
    for norm in (torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.parametrizations.spectral_norm):
        model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv())
        norm(model.second)
        assert slimming(model) == {'backbone'}


@pytest.mark.parametrize('make', [torch.jit.script, lambda part: torch.jit.trace(part, torch.rand(1, 32, 4, 4))])
@pytest.mark.parametrize('part', [nn.Softmax(1), nn.Sequential(conv(), nn.ReLU())])
def test_scripts_take_all(make, part):
    assert slimming(between(lambda net, x: x * net.script(x), script=make(copy.deepcopy(part)))) == {'backbone'}


def test_layers_that_are_shared():
    def head(net, x):
        return torch.cat((net.last(net.first(x)), net.last(net.second(x).tanh())), 2)

    assert slimming(Net(head, first=conv(), second=conv(), last=conv(outputs=4))) == {'backbone', 'first', 'second'}

    def mixed(net, x):
        return torch.cat((net.last(net.first(x)), net.last(shuffle(net.second(x)))), 2)

    assert slimming(Net(mixed, first=conv(), second=conv(), last=conv(outputs=4))) == {'backbone'}


def test_weights_that_are_shared():
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=conv(), second=conv(), last=conv(outputs=4))
    model.second.weight = model.first.weight
    assert slimming(model) == {'backbone', 'first', 'second'}
    model = Net(
        lambda net, x: F.conv2d(net.first(x), net.last.weight) + net.last(net.first(x)), first=conv(), last=conv()
    )
    assert slimming(model) == {'backbone'}


def test_lists_of_parameters_are_no_layers():
    model = between(
        lambda net, x: x * net.gains[0] + net.more['a'],
        gains=nn.ParameterList([torch.rand(CHANNELS, 1, 1)]),
        more=nn.ParameterDict({'a': torch.rand(CHANNELS, 1, 1)}),
    )
    assert slimming(model) == {'backbone'}
    model = between(lambda net, x: x * net.gains[0], gains=nn.ParameterList([torch.rand(1)]), more=nn.Module())
    model.more.weight = nn.Parameter(torch.rand(8))
    assert slimming(model) == {'backbone', 'first'}


@pytest.mark.parametrize(
    'layer', [nn.LayerNorm((CHANNELS, SIZE, SIZE)), nn.PReLU(CHANNELS), nn.InstanceNorm2d(CHANNELS, affine=True)]
)
def test_layers_that_cannot_slim_take_all(layer):
    model = between(lambda net, x: net.layer(x), layer=layer)
    assert slimming(model) == {'backbone'}
    assert f'{type(layer).__name__} takes all of its channels' in plan_slimming(model, 'detector').reasons


def test_padding_modes():
    options = dict(padding=1, kernel_size=3)
    first = nn.Conv2d(CHANNELS, CHANNELS, padding_mode='circular', **options)
    second = nn.Conv2d(CHANNELS, CHANNELS, padding_mode='reflect', **options)
    model = Net(lambda net, x: net.last(net.second(net.first(x))), first=first, second=second, last=conv())
    assert slimming(model) == {'backbone', 'first', 'second'}


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    model = between(lambda net, x: x.mean((2, 3), keepdim=True) + x.relu()).to(dtype).eval()
    assert {plan.name for plan in plan_slimming(model, 'detector').layers if plan.slims_out} == {'backbone', 'first'}
    model = between(lambda net, x: x * Mean.apply(x.float()).to(x)).to(dtype).eval()
    assert {plan.name for plan in plan_slimming(model, 'detector').layers if plan.slims_out} == {'backbone'}


def test_a_model_without_memory():
    plans = []
    for device in ('cpu', 'meta'):
        with torch.device(device):
            model = between(lambda net, x: torch.cat((x.relu(), x.softmax(1)), 1), 2 * CHANNELS, norm=nn.BatchNorm2d(4))
        plans.append(plan_slimming(model, 'detector'))
    ours, theirs = [[(layer.inputs, layer.outputs) for layer in plan.layers] for plan in plans]
    assert ours == theirs
    plans[1].apply_(WIDTHS)
    assert isinstance(model.first, mmmutual.layers.SlimConv2d)


def test_a_copy_can_be_undone_and_pickled():
    model = Net(lambda net, x: net.last(x), last=conv())
    model.head = None
    mmmutual.make_slimmable_(model.backbone, WIDTHS)
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    mmmutual.undo_slimmable_(other)
    assert type(other.backbone) is nn.Conv2d and 'width' not in vars(other.backbone)
    assert type(model.backbone) is not nn.Conv2d
