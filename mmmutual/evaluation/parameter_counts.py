"""Parameters of a sub-network: as many as the separately built narrow network has."""

from __future__ import annotations

import copy

from torch import nn

from mmmutual.layers import DividedLayer, Slimmable, SlimParameters
from mmmutual.slimming.dry_run import run_image
from mmmutual.slimming.meta_run import Size, meta_copy, run_on_meta
from mmmutual.slimming.roles import channel_dim, features

from .whole_run import as_it_is, needs_values

ANY_SIZE: Size = (64, 64)  # parameters do not depend on the image


def count_parameters(model: nn.Module) -> int:
    """Count the parameters that a detector uses at its active width.

    The active input channels of a layer are known only when it runs, so the detector runs once on a small image. A
    slimmable layer that does not run counts in full, like all other layers. Running statistics are
    not counted.

    Args:
        model: An mmdet detector.

    Returns:
        Number of active parameters, frozen ones included.

    Raises:
        ValueError: As ``count_multiply_adds``.

    Examples:
        >>> with mmmutual.use_width(model, 0.5):
        ...     print(f'{count_parameters(model) / 1e6:.2f} M')
        0.77 M
    """
    copied = copy.deepcopy(model) if needs_values(model) else meta_copy(model)
    active = {layer: _own(layer) for layer in copied.modules()}
    ran: set[nn.Module] = set()

    def record(layer: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        arrived = [value.size(channel_dim(layer, kwargs)) for value in features(layer, args, kwargs)]
        count = _active(layer, arrived[0] if arrived else 0)
        active[layer] = max(active[layer], count) if layer in ran else count
        active.update((part, 0) for part in layer.modules() if part is not layer)
        ran.add(layer)

    for layer in copied.modules():
        if isinstance(layer, Slimmable) and not isinstance(layer, SlimParameters):
            layer.register_forward_hook(record, with_kwargs=True)
    if needs_values(model):
        with as_it_is(copied):
            run_image(copied, *ANY_SIZE)
    else:
        run_on_meta(copied, ANY_SIZE, lambda part, function, *args: function(*args))
    return sum(active.values())


def _own(module: nn.Module) -> int:
    """Parameters of a module itself; of those that slim outside layers, the active part."""
    return sum(getattr(module, name, value).numel() for name, value in module.named_parameters(recurse=False))


def _active(layer: nn.Module, channels: int) -> int:
    """Parameters of a slimmable layer, with those of its parts, that compute an output from some channels."""
    if isinstance(layer, DividedLayer):
        buffers = dict(layer.named_buffers())
        return sum(part.numel() for name, part in layer.active_tensors(channels).items() if name not in buffers)
    own = [name for name, _ in layer.named_parameters(recurse=False) if '_at_' not in name]  # those of one width
    return channels * len(own)  # a norm: one value for each channel
