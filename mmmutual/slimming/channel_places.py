"""The places of a model's channels in the tensors of all layers that write, pass or read them, for a new order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import lcm

import torch
from torch import Tensor, nn

from mmmutual.layers import Segment, channel_sides

from .importance import Importance
from .plan import SlimmingPlan
from .plan_parts import ChannelGroup, LayerPlan, ParameterPlan, Part
from .roles import Role, is_source
from .rules import own_parameter
from .scope import may_get_fewer

Places = dict[str, dict[int, Tensor]]


def channel_places(plan: SlimmingPlan, score: Importance) -> Places:
    """The new order of the channels of all groups of a plan, the most important first.

    Args:
        plan: A plan.
        score: Scores the channels of a group.

    Returns:
        For each tensor, by its name in the model, and for each of its dimensions: the former places (channels,).

    Raises:
        ValueError: As ``order_channels_``.
    """
    layers = {layer.name: layer for layer in plan.layers}
    _check_all_seen(plan)
    modules = {name: layer.layer for name, layer in layers.items()}
    parameters = {parameter.name: parameter for parameter in plan.parameters}
    sides: dict[tuple[str, bool], Tensor] = {}  # by layer, and whether it is the input
    for group in plan.groups:
        if group.leaves or any(part.layer in layers and is_source(modules[part.layer]) for part in group.writers):
            continue  # an encoding of places has no weights that could be ordered
        order = _order(_norm_groups(group, layers), _scores(group, modules, score))
        for part in group.writers:
            if part.layer in layers:
                _fill(sides, layers[part.layer], part, order, reads=False)
            else:
                _move(sides, (part.layer, False), _count(parameters[part.layer].segments), part, order)
        for part in group.readers:
            _fill(sides, layers[part.layer], part, order, reads=True)
        for part in group.followers:
            layer = layers[part.layer]
            if layer.role is Role.GROUPED:
                _fill(sides, layer, part, order, reads=True)
                part = _written(part, layer.layer)
            _fill(sides, layer, part, order, reads=False)
    places: Places = {}
    for (name, reads), index in sides.items():
        if name in parameters:
            for other, dim in _names_of(parameters[name], plan):
                places.setdefault(other, {})[dim] = index
            continue
        for tensor, dim, size in _dims(layers[name], reads):
            places.setdefault(f'{name}.{tensor}', {})[dim] = index[:size]  # the groups of a layer have one order
    _check_shared(plan.model, places)
    return places


def _check_all_seen(plan: SlimmingPlan) -> None:
    """Raise ``ValueError`` for a layer that may read the channels, but does not run on an image alone.

    If the plan did not follow the channels into the heads, these get all channels, in their former order.
    """
    at_heads = plan.scope == 'detector' or any(layer.used and not _before_heads(layer) for layer in plan.layers)
    for layer in plan.layers:
        unseen = not layer.used and layer.role is not Role.EXTRACTOR
        if unseen and (at_heads or _before_heads(layer)) and may_get_fewer(plan.model, layer.name, plan.scope):
            hint = "Choose scope='backbone'" if plan.scope == 'detector' else 'Train it without an order'
            raise ValueError(
                f'the channels of {type(plan.model).__name__} cannot be ordered in scope {plan.scope!r}: its layer '
                f'{layer.name} ({type(layer.layer).__name__}) does not run on an image alone, so the channels that it '
                f'reads in training are unknown. {hint}'
            )


def _before_heads(layer: LayerPlan) -> bool:
    return layer.name.split('.')[0] in ('backbone', 'neck')


def _scores(group: ChannelGroup, modules: Mapping[str, nn.Module], score: Importance) -> Tensor:
    found = torch.as_tensor(score(group, modules)).detach().double().cpu()
    if found.shape != (group.channels,) or not bool(found.isfinite().all()):
        name = getattr(score, '__name__', type(score).__name__)
        raise ValueError(
            f'the importance {name} must return a finite score for each of the {group.channels} channels that '
            f'{group.writers[0].layer} writes, but returned '
            f'{"values that are not finite" if found.shape == (group.channels,) else f"the shape {tuple(found.shape)}"}'
        )
    return found


def _norm_groups(group: ChannelGroup, layers: Mapping[str, LayerPlan]) -> int:
    """The number of neighbours that must stay together, since a group norm normalises them together."""
    unit = 1
    for part in group.followers:
        layer = layers[part.layer].layer
        if isinstance(layer, nn.GroupNorm):
            size, repeats = layer.num_channels // layer.num_groups, part.channels // group.channels
            unit = lcm(unit, lcm(size, repeats) // repeats)
    return unit


def _order(unit: int, scores: Tensor) -> Tensor:
    """The former place of each channel of a group: units of neighbours, the most important first."""
    units = scores.reshape(-1, unit).sum(1).argsort(descending=True, stable=True)
    return (units[:, None] * unit + torch.arange(unit)).flatten()


def _written(part: Part, layer: nn.Module) -> Part:
    """The place in the output of a grouped convolution for a place in its input."""
    start, channels = (count * layer.out_channels // layer.in_channels for count in part[1:])
    return Part(part.layer, start, channels)


def _fill(sides: dict, plan: LayerPlan, part: Part, order: Tensor, reads: bool) -> None:
    """Note the order of a group's channels at a place of a layer."""
    if plan.role is Role.EXTRACTOR:
        return
    size = _count(plan.inputs if reads or plan.outputs is None else plan.outputs)
    _move(sides, (plan.name, reads), size, part, order)


def _move(sides: dict, key: tuple[str, bool], size: int, part: Part, order: Tensor) -> None:
    """Note the order of a group's channels at a place among all channels of a tensor or a layer's side."""
    repeats = part.channels // len(order)
    index = sides.setdefault(key, torch.arange(size))
    moved = (order[:, None] * repeats + torch.arange(repeats)).flatten()
    index[part.start : part.start + part.channels] = part.start + moved


def _dims(plan: LayerPlan, reads: bool) -> list[tuple[str, int, int]]:
    """The tensors of a layer that have the channels of its input or output, with the dimension and its size."""
    layer = plan.layer
    if plan.role is Role.NORM:
        channels = _count(plan.inputs)
        return [
            (name, 0, channels) for name, tensor in named_tensors(layer) if tensor.dim() and tensor.size(0) == channels
        ]
    own, sides = dict(named_tensors(layer)), channel_sides(layer)
    if not own.keys() <= sides.keys():
        raise ValueError(
            f'the channels of {plan.name} ({type(layer).__name__}) cannot be ordered, since its weight is made of '
            f'{sorted(own.keys() - sides.keys())}: remove the parametrization or the pruning first'
        )
    size, letter = _count(plan.inputs if reads else plan.outputs), 'i' if reads else 'o'
    sizes = {size}
    if reads and plan.role is Role.WRITER:
        sizes.add(size // getattr(layer, 'groups', 1))  # a kernel has the inputs of one group
    return [
        (name, dim, tensor.size(dim))
        for name, tensor in own.items()
        for dim, side in enumerate(sides[name])
        if side == letter and tensor.size(dim) in sizes
    ]


def _names_of(parameter: ParameterPlan, plan: SlimmingPlan) -> Iterator[tuple[str, int]]:
    """The names of a parameter in all modules that have it, with its last dimension."""
    tensor = own_parameter(parameter.module, parameter.attribute)
    for other in plan.parameters:
        if own_parameter(other.module, other.attribute) is tensor:
            yield other.name, tensor.dim() - 1


def _count(segments: Iterable[Segment] | None) -> int:
    return sum(segment.channels for segment in segments or ())


def _check_shared(model: nn.Module, places: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Raise ``ValueError`` if layers share a tensor, but not its order."""
    first: dict[int, tuple[str, Mapping[int, Tensor]]] = {}
    for name, tensor in named_tensors(model):
        dims = places.get(name, {})
        other, known = first.setdefault(memory_of(tensor), (name, dims))
        if known.keys() != dims.keys() or any(not torch.equal(known[dim], dims[dim]) for dim in dims):
            raise ValueError(
                f'the channels of {type(model).__name__} cannot be ordered, since {other} and {name} are one tensor '
                'of layers whose channels have different orders: untie them, or keep the order'
            )


def memory_of(tensor: Tensor) -> int:
    """The place of a tensor in memory: two parameters with one place are tied, also by ``other.data = one.data``."""
    return tensor.data_ptr() or id(tensor)  # 0 for tensors without memory


def named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers: a shared module under one name, a shared tensor under the name in each module."""
    return [
        (f'{prefix}.{name}' if prefix else name, tensor)
        for prefix, module in model.named_modules()
        for named in (module.named_parameters, module.named_buffers)
        for name, tensor in named(recurse=False, remove_duplicate=False)
    ]
