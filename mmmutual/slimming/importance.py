"""The importance of channels in a trained network: one registry of functions that score the channels of a group.

A function receives a channel group and the layers by name, and returns a score for each channel::

    @IMPORTANCES.register_module()
    def largest(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
        return torch.stack([weight.abs().amax(1) for weight in read_weights(group, layers)]).amax(0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import TypeAlias

import torch
from mmengine.registry import Registry
from torch import Tensor, nn

from mmmutual.layers import channel_sides

from .plan_parts import ChannelGroup, Part
from .roles import NORMS

Importance: TypeAlias = Callable[[ChannelGroup, Mapping[str, nn.Module]], Tensor]
IMPORTANCES = Registry('channel importance', locations=['mmmutual.slimming.importance'])


def read_weights(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> list[Tensor]:
    """The weights that multiply the channels of a group, for each of its readers.

    Args:
        group: A channel group.
        layers: Layers by name.

    Returns:
        Tensors (channels, K), one for each place in a reader's input; K are the weights of one channel.
    """
    return [_slices(layers[part.layer], part, group.channels) for part in group.readers]


@IMPORTANCES.register_module('norm_scale')
def norm_scale(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
    """The absolute weights of the norms that the channels pass (Network Slimming, arXiv 1708.06519).

    Behind a norm, the weight of a channel is its standard deviation, so this is the size of its activations. The score
    is the sum over the norms of a group, as the channels of a residual stage are a sum of normalised ones. Channels
    without a norm get their L1 norm.
    """
    scores = torch.zeros(group.channels)
    for name, start, channels in group.followers:
        norm = layers[name]
        if isinstance(norm, NORMS) and isinstance(getattr(norm, 'weight', None), nn.Parameter):
            weight = norm.weight.detach().abs().float().cpu().narrow(0, start, channels)
            scores += weight.reshape(group.channels, -1).sum(1)
    return scores if bool(scores.any()) else l1(group, layers)


@IMPORTANCES.register_module('l1')
def l1(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
    """The L1 norm of the readers' weights (as Once-for-All orders channels, arXiv 1908.09791)."""
    weights = read_weights(group, layers)
    return sum((weight.abs().sum(1) for weight in weights), torch.zeros(group.channels))


@IMPORTANCES.register_module('l2')
def l2(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
    """The L2 norm of the readers' weights."""
    weights = read_weights(group, layers)
    return sum((weight.square().sum(1) for weight in weights), torch.zeros(group.channels)).sqrt()


def importance_function(importance: str | Importance) -> Importance:
    """The function of a name.

    Args:
        importance: A name in ``IMPORTANCES``, or a function.

    Returns:
        The function.

    Raises:
        TypeError: If it is neither a name nor a function.
        ValueError: If no function has that name.
    """
    if not isinstance(importance, str):
        if not callable(importance):
            raise TypeError(f'importance must be a name or a function, but got {importance!r}')
        return importance
    found = IMPORTANCES.get(importance)
    if found is None:
        raise ValueError(
            f'importance must be a function or one of {sorted(IMPORTANCES.module_dict)}, but got {importance!r}'
        )
    return found


def _slices(layer: nn.Module, part: Part, channels: int) -> Tensor:
    """The weights (channels, K) of a place in a layer's input."""
    found = []
    for name, sides in channel_sides(layer).items():
        if sides.count('i') == 1 and set(sides) & set('ohq'):  # not those that weigh places
            with suppress(AttributeError):  # of an option that the layer lacks
                weight, groups = attrgetter(name)(layer).detach().float().cpu(), getattr(layer, 'groups', 1)
                if groups > 1:  # a kernel has the inputs of one group
                    weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).unsqueeze(0)
                weight = weight.movedim(sides.index('i'), 0)
                found.append(weight.narrow(0, part.start, part.channels).reshape(channels, -1))
    return torch.cat(found, 1)
