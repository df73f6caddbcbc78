"""A narrow network against the full one in which the channels that a narrow layer does not get are zero.

The full network runs stock operations on all of its channels; only what its slimmable layers get is masked, as their
segments say. So an operation between two layers that mixes channels gives something else than in the narrow network.
Two kinds of layers compute across channels: a layer norm normalises the unmasked ones, and the heads of an attention
that a narrow one lacks have no weight in its output.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import mmmutual
from mmmutual.layers import Segment, SlimAttention, SlimBatchNorm2d, SlimLayerNorm, Slimmable, SlimParameters
from mmmutual.slimming.roles import channel_dim, features
from mmmutual.tensor_tree import tensors_in

Run = Callable[[nn.Module], object]
WIDTHS = (1.0, 0.75, 0.6, 0.5, 0.25)
TOLERANCE = 1e-6


def segments_in(layer: nn.Module) -> Sequence[Segment] | None:
    """The input channels of a layer; None if they are unknown."""
    return layer.segments if hasattr(layer, 'segments') else layer.in_segments


def active_places(segments: Sequence[Segment], width: float) -> list[int]:
    places, start = [], 0
    for segment in segments:
        places += range(start, start + segment.active(width))
        start += segment.channels
    return places


def randomize(model: nn.Module) -> None:
    """Weights and statistics as after a training, so that no channel is dead, trivial or like another."""
    generator = torch.Generator().manual_seed(1)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point():
            continue
        noise = torch.rand(value.shape, generator=generator)
        if name.endswith('running_var') or (name.endswith('weight') and value.dim() == 1):
            value.data = (noise + 0.5).to(value)
        elif value.dim() > 1:
            value.data = ((noise - 0.5) * (12 / max(1, value[0].numel())) ** 0.5).to(value)
        else:
            value.data = (noise - 0.5).to(value)


def share_statistics(model: nn.Module) -> None:
    """Let every width have the statistics of the full one."""
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d) and layer.track_running_stats:
            mean, var, _ = layer.statistics(1.0)
            for width in layer.widths[1:]:
                for own, full in zip(layer.statistics(width), (mean, var)):
                    own.copy_(full)
                layer.statistics(width)[2].fill_(1)


@torch.no_grad()
def assert_narrow_is_masked(model: nn.Module, run: Run, widths: Sequence[float] = WIDTHS, tolerance=TOLERANCE) -> None:
    """At each width, layer by layer and in the end, the active channels are those of the masked full network.

    Args:
        model: A model after ``make_slimmable_`` in evaluation mode; better in double precision.
        run: Runs it on images; the same ones at each call.
        widths: Some of its widths.
        tolerance: Of the largest value.
    """
    share_statistics(model)
    for width in widths:
        masked = _inputs(without_heads(copy.deepcopy(model), width), run, 1.0, width)
        narrow = _inputs(model, run, width, width)
        for name, theirs in masked.items():
            ours = narrow[name]
            assert len(ours) == len(theirs), (
                f'{name} gets {len(ours)} tensors at {width}, but {len(theirs)} tensors in full'
            )
            for mine, other in zip(ours, theirs):
                _assert_same(mine, other, name, width, tolerance)


def without_heads(model: nn.Module, width: float) -> nn.Module:
    """The model, in which the heads that are not active at a width have no weight in the output of their attention."""
    for layer in model.modules():
        if isinstance(layer, SlimAttention):
            (name,) = (name for name, letters in layer.sides.items() if letters == 'oh')
            with mmmutual.use_width(layer, width):
                layer.get_parameter(name).data.unflatten(1, (layer.num_heads, -1))[:, layer.active_heads :] = 0
    return model


def _assert_same(ours: Tensor, theirs: Tensor, name: str, width: float, tolerance: float) -> None:
    where = f'input of {name}' if name else 'output'
    if not name and ours.shape != theirs.shape:  # levels of a backbone alone: some of the full one's channels
        theirs = _found_in(ours, theirs, tolerance)
    assert ours.shape == theirs.shape, f'{where} at {width}: {tuple(ours.shape)} instead of {tuple(theirs.shape)}'
    if not ours.numel() or not ours.is_floating_point():
        assert torch.equal(ours, theirs), where
        return
    scale = theirs.abs().nan_to_num(0, 0, 0).max().item()
    torch.testing.assert_close(
        ours, theirs, rtol=tolerance, atol=tolerance * scale, equal_nan=True, msg=lambda m: f'{where} at {width}: {m}'
    )


def _found_in(ours: Tensor, theirs: Tensor, tolerance: float) -> Tensor:
    """The channels of the full level that the narrow one has, looked for in their order."""
    dims = [dim for dim, sizes in enumerate(zip(ours.shape, theirs.shape)) if sizes[0] != sizes[1]]
    assert ours.dim() == theirs.dim() and len(dims) == 1, f'{tuple(ours.shape)} against {tuple(theirs.shape)}'
    places, scale = [], theirs.abs().max().item()
    for channel in ours.unbind(dims[0]):
        start = places[-1] + 1 if places else 0
        for place in range(start, theirs.size(dims[0])):
            if torch.allclose(channel, theirs.select(dims[0], place), rtol=tolerance, atol=tolerance * scale):
                places.append(place)
                break
    return theirs.index_select(dims[0], torch.tensor(places, dtype=torch.long))


def _inputs(model: nn.Module, run: Run, width: float, mask: float) -> dict[str, list[Tensor]]:
    """Active channels of the inputs of each slimmable layer, by name, and outputs of the model; masked as at a width."""
    found = defaultdict(list)
    handles = []
    for name, layer in model.named_modules():
        if not isinstance(layer, Slimmable) or isinstance(layer, SlimParameters):
            continue

        def enter(layer, args, kwargs, name=name):
            segments, dim, masked = segments_in(layer), channel_dim(layer, kwargs), {}
            for value in features(layer, args, kwargs):
                if width != mask and segments is not None:
                    places = torch.tensor(active_places(segments, mask))
                    found[name].append(value.index_select(dim, places))
                    masked[id(value)] = torch.zeros_like(value).index_copy(dim, places, found[name][-1])
                else:
                    found[name].append(value.clone())
            return replaced(args, masked), {key: replaced(value, masked) for key, value in kwargs.items()}

        def normalise(layer, args, kwargs, output):
            dim = channel_dim(layer, kwargs) % output.dim()
            active = args[0].index_select(dim, torch.tensor(active_places(layer.segments, mask)))
            var, mean = torch.var_mean(active, dim, unbiased=False, keepdim=True)
            output = (args[0] - mean) / (var + layer.eps).sqrt()
            for value, combine in ((layer.weight, torch.mul), (layer.bias, torch.add)):
                if value is not None:
                    output = combine(output, value.view(-1, *[1] * (output.dim() - 1 - dim)))
            return output

        handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
        if width != mask and isinstance(layer, SlimLayerNorm) and layer.segments is not None:
            handles.append(layer.register_forward_hook(normalise, with_kwargs=True))
    try:
        with mmmutual.use_width(model, width), torch.random.fork_rng():
            torch.manual_seed(0)
            found[''] = [value.clone() for value in tensors_in(run(model))]
    finally:
        for handle in handles:
            handle.remove()
    return found


def replaced(value: object, others: dict[int, Tensor]) -> object:
    """Arguments with other tensors, by the ids of the former ones."""
    if isinstance(value, (tuple, list)):
        return type(value)(replaced(item, others) for item in value)
    return others.get(id(value), value)
