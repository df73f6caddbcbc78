"""torch.compile and slimmable layers: one graph for each width, made once."""

import pytest
import torch
from mmdet.models.backbones.swin import WindowMSA
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimBatchNorm2d, SlimConv2d, SlimGroupNorm, SlimLayerNorm, SlimLinear, slim_layer_

WIDTHS = (1.0, 0.75, 0.5, 0.25)


def make_network() -> nn.Module:
    network = nn.Sequential(
        SlimConv2d(3, 32, 3, padding=1, bias=False),
        SlimBatchNorm2d(32, widths=WIDTHS),
        nn.ReLU(),
        SlimConv2d(32, 32, 3, groups=32),
        SlimConv2d(32, 64, 1),
        SlimGroupNorm(64, 8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        SlimLayerNorm(64),
        SlimLinear(64, 10, slim_out=False),
    )
    for width in WIDTHS:
        network[1].set_statistics(width, torch.rand(32), torch.rand(32) + 0.5)
    network[4].divide(outputs=(Segment(32), Segment(32)))
    return network


def compiled(network: nn.Module) -> tuple[nn.Module, list]:
    """The compiled network and its graphs, collected as they are made."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return torch.compile(network, backend=backend, dynamic=False, fullgraph=True), graphs


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.integration
def test_widths_visited_again_are_not_compiled_again(training):
    network, reference = make_network(), make_network()
    reference.load_state_dict(network.state_dict())
    for each in (network, reference):
        each.train(training)
    fast, graphs = compiled(network)
    x = torch.rand(2, 3, 8, 8)
    for width in (*WIDTHS, *reversed(WIDTHS), *WIDTHS):
        mmmutual.set_width(network, width)
        mmmutual.set_width(reference, width)
        torch.testing.assert_close(fast(x), reference(x))
    assert len(graphs) == len(WIDTHS)


def test_compiled_layers_see_new_weights_and_statistics():
    network = make_network().eval()
    fast, _ = compiled(network)
    x = torch.rand(2, 3, 8, 8)
    mmmutual.set_width(network, 0.5)
    before = fast(x)
    network.load_state_dict(make_network().state_dict())
    after = fast(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, network(x))


def test_compiled_norm_still_refuses_a_width_without_statistics():
    norm = SlimBatchNorm2d(32, widths=WIDTHS).eval()
    torch._dynamo.reset()
    fast = torch.compile(norm, backend='eager', dynamic=False)
    mmmutual.set_width(norm, 0.5)
    with pytest.raises(ValueError, match='width 0.5 has no batch-norm statistics yet'):
        fast(torch.rand(2, 16, 4, 4))


@pytest.mark.integration
@pytest.mark.parametrize(
    ('layer', 'call'),
    [
        (WindowMSA(32, 4, (2, 3)), lambda layer, x: layer(x)),
        (nn.MultiheadAttention(32, 4), lambda layer, x: layer(x, x, x)[0]),
    ],
    ids=['windows', 'heads'],
)
def test_attention_has_one_graph_for_each_width(layer, call):
    slim_layer_(layer, (1.0, 0.5), (Segment(32),), (Segment(32),))
    fast, graphs = compiled(layer.eval())
    for width in (1.0, 0.5, 1.0, 0.5):
        mmmutual.set_width(layer, width)
        x = torch.rand(2, 6, int(32 * width))
        torch.testing.assert_close(call(fast, x), call(layer, x))
    assert len(graphs) == 2
