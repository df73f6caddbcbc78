"""What feeds what, on small networks of which it is plain."""

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import nn

from mmmutual.layers import Segment, SlimConv2d, slim_layer_
from mmmutual.models.dataflow import Dataflow


class Net(nn.Module):
    """Layers by name, and how they are connected."""

    def __init__(self, connect, **layers) -> None:
        super().__init__()
        self.connect = connect
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.connect(self, x)


def hidden(connect, **layers) -> dict[str, int]:
    """The hidden layers with their divisors, of a run on an image of 16 channels."""
    model = Net(connect, **layers)
    for layer in model.modules():
        if isinstance(layer, (nn.GroupNorm, nn.BatchNorm2d)):
            slim_layer_(layer, (1.0,))
    names = {layer: name for name, layer in model.named_modules()}
    flow = Dataflow(model)
    with flow.recording():
        model(torch.rand(2, 16, 8, 8, requires_grad=True))
    candidates = {layer for layer in model.modules() if type(layer) in (nn.Conv2d, nn.Linear, SlimConv2d)}
    return {names[layer]: divisor for layer, divisor in flow.hidden(candidates).items()}


def conv(inputs: int = 16, outputs: int = 16, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, **options)


def test_the_last_layer_is_a_prediction():
    assert hidden(lambda net, x: net.b(net.a(x).relu()), a=conv(), b=conv()) == {'a': 8}


def test_work_in_place_hides_nothing():
    """A linear layer on three dimensions gives a view, which a ReLU in place takes out of the graph."""
    layers = dict(a=nn.Linear(8, 16), relu=nn.ReLU(inplace=True), b=nn.Linear(16, 4))
    assert hidden(lambda net, x: net.b(net.relu(net.a(x.flatten(2)[..., :8]))), **layers) == {'a': 8}


def test_a_layer_with_two_outputs_of_which_one_is_a_prediction_is_hidden_for_the_other():
    assert hidden(lambda net, x: (net.b(net.a(x)), net.a(x)), a=conv(), b=conv()) == {'a': 8}


def test_layers_that_are_summed_slim_alike():
    def connect(net, x):
        return net.out(net.a(x) + net.b(x)), net.fixed(net.b(x).flatten(2).transpose(1, 2))

    layers = dict(a=conv(), b=conv(), out=conv(), fixed=nn.LayerNorm(16))
    assert hidden(connect, **layers) == {}
    del layers['fixed']
    assert hidden(lambda net, x: net.out(net.a(x) + net.b(x)), **layers) == {'a': 8, 'b': 8}


@pytest.mark.parametrize('fixed', [ModulatedDeformConv2dPack(16, 16, 1), nn.Conv1d(16, 4, 1), nn.LayerNorm(64)])
def test_what_a_layer_that_cannot_slim_takes_is_complete(fixed):
    def connect(net, x):
        features = net.a(x)
        return net.fixed(features if isinstance(fixed, ModulatedDeformConv2dPack) else features.flatten(2))

    assert hidden(connect, a=conv(), fixed=fixed) == {}


def test_what_is_concatenated_is_complete_unless_the_next_layer_knows_its_segments():
    def connect(net, x):
        return net.out(torch.cat((net.a(x), net.b(x)), 1))

    assert hidden(connect, a=conv(), b=conv(), out=conv(32)) == {}
    out = conv(32)
    slim_layer_(out, (1.0,), (Segment(16), Segment(16)), (Segment.complete(out.out_channels),))
    assert hidden(connect, a=conv(), b=conv(), out=out) == {'a': 8, 'b': 8}
    batches = lambda net, x: net.out(torch.cat((net.a(x), net.b(x)), 0))  # noqa: E731
    assert hidden(batches, a=conv(), b=conv(), out=conv()) == {'a': 8, 'b': 8}


@pytest.mark.parametrize('cut', [lambda x: x[:, :8], lambda x: x.chunk(2, 1)[0], lambda x: x.split([8, 8], 1)[1]])
def test_what_is_cut_by_channels_is_complete(cut):
    assert hidden(lambda net, x: net.b(cut(net.a(x))), a=conv(), b=conv(8)) == {}
    assert hidden(lambda net, x: net.b(net.a(x)[:, :, :4, :4]), a=conv(), b=conv()) == {'a': 8}


def test_group_norms_keep_whole_groups():
    connect = lambda net, x: net.b(net.norm(net.a(x)))  # noqa: E731
    assert hidden(connect, a=conv(), norm=nn.GroupNorm(1, 16), b=conv()) == {'a': 16}
    assert hidden(connect, a=conv(16, 48), norm=nn.GroupNorm(4, 48), b=conv(48)) == {'a': 24}
    assert hidden(connect, a=conv(), norm=nn.BatchNorm2d(16), b=conv()) == {'a': 8}


def test_a_depthwise_convolution_passes_on():
    connect = lambda net, x: net.out(net.depthwise(net.a(x)))  # noqa: E731
    assert hidden(connect, a=conv(), depthwise=conv(groups=16), out=conv()) == {'a': 8}
    assert hidden(lambda net, x: net.depthwise(net.a(x)), a=conv(), depthwise=conv(groups=16)) == {}


def test_attention_takes_all():
    def connect(net, x):
        tokens = net.a(x).flatten(2).transpose(1, 2)
        return net.out(net.attention(tokens, tokens, tokens)[0])

    layers = dict(a=conv(), attention=nn.MultiheadAttention(16, 2, batch_first=True), out=nn.Linear(16, 4))
    assert hidden(connect, **layers) == {}


def test_boxes_are_no_features():
    """A layer whose output places RoIs is a prediction."""
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=2, sampling_ratio=1), 16, [1])

    def connect(net, x):
        boxes = net.boxes(x).flatten(1)[:, :4].abs()
        return net.out(net.extractor((net.a(x),), torch.cat((boxes[:, :1] * 0, boxes), 1)))

    assert hidden(connect, a=conv(), boxes=conv(16, 4), extractor=extractor, out=conv()) == {'a': 8}


def test_what_did_not_run_is_known():
    model = Net(lambda net, x: net.a(x), a=conv(), b=conv(), embedding=nn.Embedding(3, 16))
    flow = Dataflow(model)
    with flow.recording():
        model(torch.rand(1, 16, 2, 2, requires_grad=True))
    assert flow.idle == {model.b}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_layers_that_are_no_candidates_stay_as_they_are():
    model = Net(lambda net, x: net.b(net.a(x)), a=conv(), b=conv())
    slim_layer_(model.a, (1.0,))  # slims already, as a backbone's does
    flow = Dataflow(model)
    with flow.recording():
        model(torch.rand(1, 16, 2, 2, requires_grad=True))
    assert flow.hidden({model.b}) == {}


def test_a_layer_that_was_left_stock_takes_all():
    model = Net(lambda net, x: net.c(net.b(net.a(x))), a=conv(), b=conv(), c=conv())
    flow = Dataflow(model)
    with flow.recording():
        model(torch.rand(1, 16, 2, 2, requires_grad=True))
    assert flow.hidden({model.a, model.b}) == {model.a: 8}
