"""A detector of a few layers whose head is a function, and which of its layers slim."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmutual.slimming import plan_slimming
from tests.support.masked import WIDTHS, assert_narrow_is_masked, randomize

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


def shuffle(x: Tensor, groups: int = 4) -> Tensor:
    """Mix the channels as ShuffleNet."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def tokens(x: Tensor) -> Tensor:
    """(N, C, 4, 4) as (N, 16, C)."""
    return x.flatten(2).transpose(1, 2)


def maps(x: Tensor) -> Tensor:
    """(N, 16, C) as (N, C, 4, 4)."""
    return x.transpose(1, 2).unflatten(2, (SIZE, SIZE))


class Mean(torch.autograd.Function):
    """No operation that torch shows."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy().mean(1, keepdims=True))
