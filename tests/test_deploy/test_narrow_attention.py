"""Attention, encodings and parameters are cut to stock classes; where none fits, to one with decoupled heads."""

import copy

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.layers import SinePositionalEncoding
from torch import Tensor, nn

import mmmutual
from mmmutual.deploy import narrow_
from mmmutual.layers import Segment, Slimmable, slim_layer_, slim_parameters_
from mmmutual.layers.attention.multihead import DecoupledMultiheadAttention
from mmmutual.layers.attention.window import DecoupledWindowMSA
from mmmutual.layers.position_encoding import PartialSinePositionalEncoding
from tests.support.masked import randomize

PLACES = dict(
    reference_points=torch.rand(2, 6, 1, 2), spatial_shapes=torch.tensor([[2, 3]]), level_start_index=torch.tensor([0])
)
CASES = {  # the layer, its call, and the class of the narrow one; heads of 8 or of 16 channels
    'window': (lambda: WindowMSA(48, 6, (2, 3)), lambda layer, x: layer(x), WindowMSA),
    'decoupled window': (lambda: WindowMSA(48, 3, (2, 3)), lambda layer, x: layer(x), DecoupledWindowMSA),
    'heads': (
        lambda: nn.MultiheadAttention(48, 6),
        lambda layer, x: layer(x, x, x, attn_mask=torch.ones(6 * 2, 6, 6).tril().log())[0],  # of all heads
        DecoupledMultiheadAttention,
    ),
    'decoupled heads': (
        lambda: nn.MultiheadAttention(48, 3, bias=False), lambda layer, x: layer(x, x, x)[0],
        DecoupledMultiheadAttention,
    ),
    'deformable': (
        lambda: MultiScaleDeformableAttention(48, 3, 1, batch_first=True), lambda layer, x: layer(x, **PLACES),
        MultiScaleDeformableAttention,
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_attention_has_its_active_heads(name):
    build, call, kind = CASES[name]
    layer = build().eval()
    randomize(layer)
    was = type(layer)
    slim_layer_(layer, (1.0, 0.5), (Segment(48),), (Segment(48),))
    narrow = nn.ModuleList([copy.deepcopy(layer)])
    narrow_(narrow, 0.5)
    mmmutual.set_width(layer, 0.5)
    x = torch.rand(6, 2, 24) if isinstance(layer, nn.MultiheadAttention) else torch.rand(2, 6, 24)
    assert type(narrow[0]) is kind and issubclass(kind, was)
    assert torch.allclose(call(narrow[0], x), call(layer, x), atol=1e-6)
    assert narrow[0].num_heads == {6: 3, 3: 2}[build().num_heads]
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in narrow.state_dict().values())
    linears = [module for module in narrow.modules() if isinstance(module, nn.Linear)]
    assert all((each.out_features, each.in_features) == tuple(each.weight.shape) for each in linears)
    narrow_again = copy.deepcopy(narrow)
    assert torch.equal(call(narrow_again[0], x), call(narrow[0], x))


def test_an_encoding_keeps_its_waves():
    layer = SinePositionalEncoding(16, normalize=True)
    slim_layer_(layer, (1.0, 0.5), outputs=(Segment(16), Segment(16)))
    mask = torch.zeros(1, 4, 6)
    with mmmutual.use_width(layer, 0.5):
        expected = layer(mask)
    narrow = nn.ModuleList([layer])
    narrow_(narrow, 0.5)
    assert type(layer) is PartialSinePositionalEncoding and torch.equal(layer(mask), expected)


def test_parameters_have_the_active_channels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.rows = nn.Parameter(torch.rand(1, 16), requires_grad=False), nn.Embedding(3, 16)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain + self.rows.weight[:1]

    net = Net()
    gain, rows = net.gain, net.rows.weight
    slim_parameters_(net, dict(gain=(Segment(8, 4), Segment(8, 4))))
    slim_parameters_(net.rows, dict(weight=(Segment(16),)))
    narrow_(net, 0.5)
    assert type(net) is Net and not any(isinstance(module, Slimmable) for module in net.modules())
    assert torch.equal(net.gain, gain[:, [*range(4), *range(8, 12)]]) and not net.gain.requires_grad
    assert torch.equal(net.rows.weight, rows[:, :8]) and net.rows.embedding_dim == 8
