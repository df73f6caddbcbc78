"""Layers that keep their active weights: the outputs are the same, and changes are noticed."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment, SlimBatchNorm2d, SlimConv2d, SlimLinear, slim_parameters_
from mmmutual.layers.swap import COUNTERPARTS
from mmmutual.layers.switchable_batch_norm import SwitchableBatchNorm2d
from mmmutual.tensor_tree import tensors_in
from tests.support.every_layer import CASES, SEGMENTS, WIDTHS, build, call

TWO = (Segment(8, 4), Segment(8, 4))


class Network(nn.Module):
    """A convolution, and a norm whose kept statistics are copies, because they have two segments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = SlimConv2d(3, 16, 3), SlimBatchNorm2d(16, widths=WIDTHS), SlimLinear(16, 4)
        self.conv.divide(outputs=TWO)
        self.norm.divide(TWO)
        self.head.divide(inputs=TWO)
        for width in WIDTHS:
            self.norm.set_statistics(width, torch.rand(16), torch.rand(16) + 0.5)
        mmmutual.set_width(self.eval(), 0.5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


@pytest.fixture
def network():
    return Network()


X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def kept_tensors(layer: nn.Module) -> list[Tensor]:
    return [tensor for operands, _ in layer._kept.found.values() for tensor in tensors_in([operands])]


def test_every_slimmable_class_has_a_case():
    kinds = {kind for kind in COUNTERPARTS.values() if 'mmpretrain' not in kind.__module__}
    assert {type(build(name)) for name in CASES} == kinds | {SwitchableBatchNorm2d}


@pytest.mark.parametrize('segments', SEGMENTS)
@pytest.mark.parametrize('name', CASES)
@torch.no_grad()
def test_outputs_are_the_same_bit_for_bit_at_every_width(name, segments):
    layer, expected = build(name, segments), {}
    for width in WIDTHS:
        mmmutual.set_width(layer, width)
        expected[width] = list(tensors_in([call(name, layer, segments)]))
    with mmmutual.frozen(layer, check=True):
        for width in (*WIDTHS, *WIDTHS):
            mmmutual.set_width(layer, width)
            found = list(tensors_in([call(name, layer, segments)]))
            assert len(found) == len(expected[width]) > 0 and all(map(torch.equal, found, expected[width]))
        assert len(layer._kept.found) == (0 if name == 'position encoding' else len(WIDTHS))  # which has no weights
    assert '_kept' not in vars(layer)


@pytest.mark.parametrize('name', [name for name in CASES if name != 'position encoding'])
@torch.no_grad()
def test_the_second_call_at_a_width_slices_nothing(name, monkeypatch):
    layer = build(name)
    with mmmutual.frozen(layer):
        for width in WIDTHS:
            mmmutual.set_width(layer, width)
            call(name, layer)
        monkeypatch.setattr(type(layer), 'active_operands', lambda *args: pytest.fail('sliced again'))
        for width in WIDTHS:
            mmmutual.set_width(layer, width)
            call(name, layer)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_the_kernel_receives_one_dense_weight(memory_format, monkeypatch):
    conv = SlimConv2d(32, 64, 3).to(memory_format=memory_format).eval()
    mmmutual.set_width(conv, 0.5)
    x, seen, convolve = torch.rand(2, 16, 8, 8), [], torch.nn.functional.conv2d
    expected = conv(x)

    def spy(x, weight, *args):
        seen.append(weight)
        return convolve(x, weight, *args)

    monkeypatch.setattr(torch.nn.functional, 'conv2d', spy)
    with mmmutual.frozen(conv):
        assert all(torch.equal(conv(x), expected) for _ in range(2))
    assert seen[0] is seen[1] and seen[0].is_contiguous(memory_format=memory_format)
    mmmutual.set_width(conv, 1.0)
    with mmmutual.frozen(conv):
        conv(torch.rand(2, 32, 8, 8))
    assert seen[2] is conv.weight  # no copy at full width


@torch.no_grad()
def test_parameters_between_layers_are_kept():
    module = nn.Module()
    module.pos_embed = nn.Parameter(torch.rand(1, 5, 16))
    slim_parameters_(module, dict(pos_embed=TWO))
    mmmutual.set_width(module, 0.5)
    with mmmutual.frozen(module):
        kept = module.pos_embed
        assert torch.equal(kept, copy.deepcopy(module).pos_embed) and module.pos_embed is kept
        dict(module.named_parameters())['pos_embed'].add_(1)
        assert torch.equal(module.pos_embed, kept + 1)


@torch.no_grad()
def test_kept_tensors_are_freed_at_the_end_also_after_an_error(network):
    references = []
    with pytest.raises(KeyError), mmmutual.frozen(network):
        network(X)
        references = [weakref.ref(tensor) for tensor in kept_tensors(network.conv)]
        raise KeyError
    gc.collect()
    assert len(references) == 2 and not any(reference() is not None for reference in references)
    assert all('_kept' not in vars(layer) for layer in network.modules())


@torch.no_grad()
def test_a_nested_block_leaves_the_kept_tensors_to_the_outer_one(network):
    with mmmutual.frozen(network):
        network(X)
        before = kept_tensors(network.conv)
        with mmmutual.frozen(network.conv, check=True):
            network(X)
            assert network.conv._kept.check and not network.norm._kept.check
        assert not network.conv._kept.check
        assert all(ours is theirs for ours, theirs in zip(kept_tensors(network.conv), before, strict=True))
    assert network.conv._kept is None


def replace_weight(network):
    network.conv.weight = nn.Parameter(torch.rand(16, 3, 3, 3))


def write_in_inference_mode(network):
    with torch.inference_mode():
        network.conv.weight.mul_(2)


def train_norm(network):
    network.train()(X + 1)
    network.eval()


@torch.enable_grad()
def optimize(network):
    network(X).sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()


CHANGES = {
    'load_state_dict': lambda network: network.load_state_dict(Network().state_dict()),
    'assign': lambda network: network.load_state_dict(Network().state_dict(), assign=True),
    'copy_': lambda network: network.conv.bias.copy_(torch.rand(16)),
    'inference mode': write_in_inference_mode,
    'another parameter': replace_weight,
    'to double and back': lambda network: network.double().float(),
    'an optimizer': optimize,
    'training': train_norm,
    'calibration': lambda network: network.norm.set_statistics(0.5, torch.rand(8), torch.rand(8) + 1),
}


@pytest.mark.parametrize('change', CHANGES)
@torch.no_grad()
def test_changed_weights_are_noticed(network, change):
    with mmmutual.frozen(network):
        before = network(X)
        CHANGES[change](network)
        after = network(X)
        assert torch.equal(after, copy.deepcopy(network)(X))
        assert torch.equal(before, after) == (change == 'to double and back')


@torch.no_grad()
def test_another_type_is_noticed(network):
    with mmmutual.frozen(network):
        network(X)
        network.half()
        found = network(X.half())
        assert found.dtype == torch.half and torch.equal(found, copy.deepcopy(network)(X.half()))


@torch.no_grad()
def test_other_parameters_for_a_call_are_used(network):
    others = Network().state_dict()
    with mmmutual.frozen(network):
        expected = network(X)
        found = torch.func.functional_call(network, others, X)
        assert torch.equal(network(X), expected)
    assert torch.equal(found, torch.func.functional_call(network, others, X))


@torch.no_grad()
def test_statistics_that_were_reset_are_refused(network):
    with mmmutual.frozen(network):
        network(X)
        network.norm.reset_running_stats()
        with pytest.raises(ValueError, match='width 0.5 has no batch-norm statistics yet'):
            network(X)


@torch.no_grad()
def test_a_write_that_torch_does_not_record_is_found_by_the_check(network):
    with mmmutual.frozen(network):
        before = network(X)
        network.conv.weight.data.add_(1)
        assert torch.equal(network(X), before)  # the promise was broken
        with (
            mmmutual.frozen(network, check=True),
            pytest.raises(
                ValueError, match=r'a weight of conv has changed inside a frozen block unnoticed.* \.data: write'
            ),
        ):
            network(X)
    with mmmutual.frozen(network.conv, check=True):
        network.conv(X)
        network.conv.weight.data = torch.rand(16, 3, 3, 3)
        with pytest.raises(ValueError, match='a weight of SlimConv2d has changed'):
            network.conv(X)


@pytest.mark.parametrize('training', [False, True])
def test_gradients_inside_a_block_are_those_outside(network, training):
    reference = copy.deepcopy(network)
    with torch.no_grad(), mmmutual.frozen(network):
        network(X)
        with torch.enable_grad():
            for each in (network, reference):
                each.train(training)(X).square().sum().backward()
        assert torch.equal(network.eval()(X), reference.eval()(X))
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


COPIES = [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))]


@pytest.mark.parametrize('copied', COPIES, ids=['deepcopy', 'pickle'])
@torch.no_grad()
def test_a_copy_keeps_nothing(network, copied):
    with mmmutual.frozen(network):
        expected = network(X)
        other = copied(network)
        assert all(layer._kept is None for layer in other.children()) and torch.equal(other(X), expected)
        assert network.state_dict().keys() == other.state_dict().keys() == Network().state_dict().keys()


@torch.no_grad()
def test_a_shallow_copy_with_other_weights_uses_its_weights(network):
    with mmmutual.frozen(network):
        network.conv(X)
        replica = copy.copy(network.conv)
        vars(replica)['_parameters'] = {name: value + 1 for name, value in network.conv.named_parameters()}
        found = replica(X)
    assert torch.equal(found, copy.deepcopy(replica)(X))


def test_a_stock_model_is_refused():
    with pytest.raises(ValueError, match='Linear has no slimmable layer'), mmmutual.frozen(nn.Linear(1, 1)):
        pass
