"""How torch's operations treat channels: combine them one by one, move them, act within each one, or mix them.

An operation is known by its public name. One that is not known here may do anything with the channels that reach it, so
these never slim. Known operations are followed exactly: an operation that moves elements of a tensor moves their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmutual.tensor_tree import tensors_in

from .channel_ids import ALWAYS, ChannelIds, combine, compact, ids_of, set_ids, values_of
from .operation_names import (
    ALONG_DIM,
    CREATION,
    ELEMENTWISE,
    FIRST_ONLY,
    JOINED,
    MOVES,
    PRODUCTS,
    QUERIES,
    RESHAPED,
    SPATIAL,
)


class Call(NamedTuple):
    """One call of an operation.

    Attributes:
        ids: The ids of the run.
        function: The operation.
        name: Its public name, without underscores around it.
        args: Its arguments.
        kwargs: Its keyword arguments.
        outputs: The tensors that it gave.
    """

    ids: ChannelIds
    function: Callable
    name: str
    args: tuple
    kwargs: Mapping[str, Any]
    outputs: list[Tensor]


class Mixes(Exception):
    """An operation mixes channels, or may do so."""


def follow(ids: ChannelIds, function: Callable, args: tuple, kwargs: Mapping[str, Any], result: object) -> None:
    """Record the ids of an operation's result; channels that it mixes never slim.

    Args:
        ids: The ids of the run.
        function: An operation of torch, as ``TorchFunctionMode`` names it.
        args: Its arguments.
        kwargs: Its keyword arguments.
        result: Its result.
    """
    inputs = [value for value in tensors_in((args, kwargs)) if ids_of(value) is not None]
    name = operation_name(function)
    call = Call(ids, function, name.strip('_'), args, kwargs, list(tensors_in(result)))
    is_getter = getattr(function, '__name__', '') == '__get__'
    if not inputs or call.name in CREATION or (not call.outputs and (is_getter or call.name in QUERIES)):
        return
    if call.name == 'setitem':
        call.outputs.append(args[0])
    if not call.outputs:
        for value in inputs:
            ids.keep(values_of(ids_of(value)), f'{call.name} reads its values')
        return
    in_place = name.endswith('_') and not name.endswith('__')
    try:
        found = None if in_place and call.name in MOVES else _ids_after(call)
    except (Mixes, RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        found = None
    if found is None or len(found) != len(call.outputs):
        for value in inputs:
            ids.keep(values_of(ids_of(value)), f'{call.name} mixes channels, or may do so')
        found = [None] * len(call.outputs)
    for value, own in zip(call.outputs, found):
        set_ids(value, own)


def operation_name(function: Callable) -> str:
    """The name of an operation; of an attribute that is read, such as ``Tensor.T``, the attribute's."""
    owner = getattr(function, '__self__', None)
    if getattr(function, '__name__', '') == '__get__':
        return getattr(owner, '__name__', '')
    return getattr(function, '__name__', type(function).__name__)


def _ids_after(call: Call) -> list[Tensor | None] | None:
    """The ids of each output, or None for an operation that is not known."""
    name = call.name
    if name == 'setitem':
        return [_set_item(call)]
    if name in ALONG_DIM and not (name in ('max', 'min') and isinstance(_argument(call, 1, 'other'), Tensor)):
        return _along_dim(call)
    if name in FIRST_ONLY:
        return [ids_of(call.args[0])] * len(call.outputs)
    if name in ELEMENTWISE:
        return [_combined(call, output.shape) for output in call.outputs]
    if name == 'embedding':
        return [_rows_of_weight(call)]
    if name == 'unfold' and call.function is F.unfold:
        return [_patches(call)]
    if name in MOVES:
        return _moved(call)
    if name in SPATIAL:
        return _spatial(call)
    return _product(call) if name in PRODUCTS else None


def _combined(call: Call, shape: torch.Size) -> Tensor | None:
    """Each element comes of those at its place."""
    operands = list(tensors_in((call.args, call.kwargs)))
    if call.name == 'copy':
        operands = operands[1:]
    combined = None
    for own in (own.expand(shape) for own in map(ids_of, operands) if own is not None):
        combined = own if combined is None else combine(call.ids, combined, own)
    for operand in operands if combined is not None else ():
        if ids_of(operand) is None:
            _meet_fixed(call, combined, operand)
    return combined


def _meet_fixed(call: Call, ids: Tensor, operand: Tensor) -> None:
    """Channels that meet a tensor with a value for each of them never slim."""
    varying = compact(ids)
    for dim in range(1, min(operand.dim(), varying.dim()) + 1):
        if operand.size(-dim) > 1 and varying.size(-dim) > 1:
            call.ids.keep(values_of(varying), f'{call.name} with a tensor of a fixed size needs all of its channels')


def _moved(call: Call) -> list[Tensor | None] | None:
    """Elements move, so their ids do."""
    joined = call.name in JOINED
    source: Any
    first = call.args[0] if call.args else call.kwargs['tensors' if joined else 'input']
    if joined:
        device = next(own.device for own in map(ids_of, first) if own is not None)
        source = [_always(value, device) if ids_of(value) is None else ids_of(value) for value in first]
    else:
        source = ids_of(first)
        for value in tensors_in((call.args[1:], [v for k, v in call.kwargs.items() if k != 'input'])):
            if ids_of(value) is not None and call.name not in ('expand_as', 'reshape_as', 'view_as'):
                call.ids.keep(values_of(ids_of(value)), f'{call.name} chooses by it')
        if source is None:
            return [None] * len(call.outputs)
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ('tensors', 'input')}
    if call.name in RESHAPED:
        moved = getattr(Tensor, RESHAPED[call.name])(source, *call.args[1:], **kwargs)
    else:
        moved = call.function(source, *call.args[1:], **kwargs)
    return list(tensors_in(moved))


def _rows_of_weight(call: Call) -> Tensor:
    """Rows of an embedding's weight, chosen by indices that no channel gives."""
    indices, weight = _argument(call, 0, 'input'), _argument(call, 1, 'weight')
    if ids_of(indices) is not None or ids_of(weight) is None or _argument(call, 3, 'max_norm') is not None:
        raise Mixes
    ids: Tensor = ids_of(weight)
    return ids[indices.to(ids.device)]


def _patches(call: Call) -> Tensor:
    """Patches (N, C x pixels, places) of a map, in which the pixels of each channel are neighbours."""
    ids, output = compact(ids_of(_argument(call, 0, 'input'))), call.outputs[0]
    if any(ids.size(dim) > 1 for dim in (0, 2, 3)):
        raise Mixes
    pixels = output.size(-2) // ids.size(1)
    return ids.flatten().repeat_interleave(pixels).view(1, -1, 1).expand(output.shape)


def _set_item(call: Call) -> Tensor | None:
    target, index, value = call.args
    for chosen in tensors_in(index if isinstance(index, tuple) else (index,)):
        if ids_of(chosen) is not None:
            raise Mixes
    tensors = [tensor for tensor in (target, value) if isinstance(tensor, Tensor)]
    device = next(own.device for own in map(ids_of, tensors) if own is not None)
    written = ids_of(target)
    ids = (_always(target, device) if written is None else written).clone()
    ids[index] = ALWAYS if not isinstance(value, Tensor) or ids_of(value) is None else ids_of(value)
    return ids


def _along_dim(call: Call) -> list[Tensor | None]:
    """It acts along some dimensions: allowed unless they are dimensions of channels."""
    position, default = ALONG_DIM[call.name]
    dims = _argument(call, position, 'dim', default)
    source = call.args[0] if call.args else call.kwargs['input']
    dims = range(source.dim()) if dims is None else dims if isinstance(dims, Sequence) else (dims,)
    return _within(call, source, [dim % source.dim() for dim in dims])


def _spatial(call: Call) -> list[Tensor | None]:
    """It acts on the pixels of each channel."""
    source = call.args[0] if call.args else call.kwargs['input']
    count = 2
    if call.name == 'pad':
        pads = _argument(call, 1, 'pad')
        padded = [source.dim() - 1 - place // 2 for place, size in enumerate(pads) if size]
        return _within(call, source, padded)
    if call.name in ('interpolate', 'upsample'):
        count = source.dim() - 2
    if call.name == 'grid_sample':
        grid = _argument(call, 1, 'grid')
        if ids_of(grid) is not None:
            call.ids.keep(values_of(ids_of(grid)), 'grid_sample reads places from it')
        if ids_of(source) is None:
            return [None]
    elif len(list(tensors_in((call.args, call.kwargs)))) > 1:  # weights, one for each channel
        raise Mixes
    return _within(call, source, range(source.dim() - count, source.dim()))


def _within(call: Call, source: Tensor, dims: Sequence[int]) -> list[Tensor | None]:
    """The ids after something that happens along dimensions, which may vanish or change in size."""
    ids = compact(ids_of(source))
    if any(ids.size(dim) > 1 for dim in dims):
        raise Mixes
    found = []
    for output in call.outputs:
        own = ids
        if output.dim() < source.dim():
            own = ids.squeeze(tuple(dims))
        found.append(own.expand(output.shape))
    return found


def _product(call: Call) -> list[Tensor | None]:
    """A matrix product: allowed unless it sums over channels."""
    first, second = call.args[:2] if call.name != 'rmatmul' else call.args[1::-1]
    if first.dim() < 2 or second.dim() < 2:
        raise Mixes
    shape, combined = call.outputs[0].shape, None
    for operand, summed in ((first, -1), (second, -2)):
        if ids_of(operand) is None:
            continue
        ids = compact(ids_of(operand))
        if ids.size(summed) > 1:
            raise Mixes
        combined = ids.expand(shape) if combined is None else combine(call.ids, combined, ids.expand(shape))
    for operand, other in ((first, second), (second, first)):
        if ids_of(operand) is None and ids_of(other) is not None and operand.dim() > 2:
            batch = compact(ids_of(other))
            if any(batch.size(dim) > 1 for dim in range(batch.dim() - 2)):
                raise Mixes
    return [combined]


def _argument(call: Call, position: int, name: str, default: object = None) -> Any:
    if name in call.kwargs:
        return call.kwargs[name]
    if name == 'dim' and 'axis' in call.kwargs:
        return call.kwargs['axis']
    return call.args[position] if len(call.args) > position else default


def _always(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.full((1,) * tensor.dim(), ALWAYS, device=device).expand(tensor.shape)
