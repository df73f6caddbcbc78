"""Parameters of a sub-network: as many as the separately built narrow network has."""

from __future__ import annotations

from torch import Tensor, nn

from mmmutual.layers import SlimConv2d, SlimConvTranspose2d, SlimLinear, Slimmable
from mmmutual.slimming.meta_run import Size, meta_copy, run_on_meta

ANY_SIZE: Size = (64, 64)  # parameters do not depend on the image


def count_parameters(model: nn.Module) -> int:
    """Count the parameters that a detector uses at its active width.

    The active input channels of a layer are known only when it runs, so the detector runs once on meta tensors. A
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
    meta = meta_copy(model)
    active = {layer: _own(layer) for layer in meta.modules()}
    ran: set[nn.Module] = set()

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        count = _active(layer, inputs[0], output)
        active[layer] = max(active[layer], count) if layer in ran else count
        ran.add(layer)

    for layer in meta.modules():
        if isinstance(layer, Slimmable):
            layer.register_forward_hook(record)
    run_on_meta(meta, ANY_SIZE, lambda part, function, *args: function(*args))
    return sum(active.values())


def _own(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters(recurse=False))


def _active(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """Parameters of a slimmable layer that took part in computing ``output`` from ``x``."""
    if isinstance(layer, SlimLinear):
        features_in, features_out = x.size(-1), output.size(-1)
        return features_out * (features_in + (layer.bias is not None))
    if isinstance(layer, SlimConvTranspose2d):
        per_pair = layer.weight[0, 0].numel()
        return output.size(1) * (x.size(1) * per_pair + (layer.bias is not None))
    if isinstance(layer, SlimConv2d):
        per_filter = layer.weight[0].numel() // layer.weight.size(1)
        channels_in = x.size(1) if layer.groups == 1 else layer.weight.size(1)  # per group, which stays fixed
        return output.size(1) * (channels_in * per_filter + (layer.bias is not None))
    own = [name for name, _ in layer.named_parameters(recurse=False) if '_at_' not in name]  # those of one width
    return x.size(1) * len(own)  # a norm: one value for each channel
