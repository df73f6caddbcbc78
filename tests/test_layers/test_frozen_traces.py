"""Compiling, exporting and tracing inside a ``frozen`` block: the weights are sliced as outside of it."""

import copy

import pytest
import torch
from torch import nn

import mmmutual
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, SlimLinear

WIDTHS = (1.0, 0.5)
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    network = nn.Sequential(
        SlimConv2d(3, 16, 3),
        SlimBatchNorm2d(16, widths=WIDTHS),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        SlimLinear(16, 4),
    )
    network[1].set_statistics(0.5, torch.rand(8), torch.rand(8) + 0.5)
    mmmutual.set_width(network.eval(), 0.5)
    return network


def write_unnoticed(network: nn.Module) -> torch.Tensor:
    """Write a weight so that kept tensors are out of date, and return the new outputs."""
    network[0].weight.data.add_(torch.rand(3, 3, 3))
    return copy.deepcopy(network)(X)  # a copy keeps nothing


@pytest.mark.integration
@torch.no_grad()
def test_compiled_graphs_are_those_of_outside(network):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    fast = torch.compile(network, backend=backend, dynamic=False, fullgraph=True)
    torch.testing.assert_close(fast(X), network(X))
    with mmmutual.frozen(network):
        network(X)
        torch.testing.assert_close(fast(X), network(X))
        expected = write_unnoticed(network)
        torch.testing.assert_close(fast(X), expected)
        with mmmutual.use_width(network, 1.0):
            torch.testing.assert_close(fast(X), network(X))
    assert len(graphs) == len(WIDTHS)


@pytest.mark.integration
@pytest.mark.parametrize('strict', [False, True])
@torch.no_grad()
def test_an_exported_program_has_the_parameters(network, strict):
    with mmmutual.frozen(network):
        network(X)
        program = torch.export.export(network, (X,), strict=strict)
    assert not program.graph_signature.lifted_tensor_constants  # as a kept tensor would be
    used = {node.name for node in program.graph.nodes if node.users}
    assert set(program.graph_signature.inputs_to_parameters) <= used
    assert set(program.graph_signature.parameters) == {name for name, _ in network.named_parameters()}
    torch.testing.assert_close(program.module()(X), network(X))


@torch.no_grad()
def test_a_symbolic_trace_has_the_layers(network):
    with mmmutual.frozen(network):
        network(X)
        graph = torch.fx.symbolic_trace(network)
        assert torch.equal(graph(X), network(X))
    assert sum(node.op == 'call_module' for node in graph.graph.nodes) == len(network)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
@torch.no_grad()
def test_a_script_has_the_parameters(network):
    with mmmutual.frozen(network):
        network(X)
        script = torch.jit.trace(network, X)
        torch.testing.assert_close(script(X), network(X))
        expected = write_unnoticed(network)
        torch.testing.assert_close(script(X), expected)
