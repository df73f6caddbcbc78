"""Convert a slimmable model to the narrow stock model of a sub-network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmmutual.layers import (
    DividedLayer,
    SlimBatchNorm2d,
    SlimGroupNorm,
    SlimLayerNorm,
    Slimmable,
    SlimParameters,
    StockNorm,
    check_ratio,
    set_width,
    slimmable_layers,
    to_stock_,
    unslim_parameters_,
)
from mmmutual.layers.parameters import active_parameter
from mmmutual.slimming.block_swap import unswap_block_

from .arrivals import arriving_channels


@torch.no_grad()
def narrow_(model: nn.Module, width: float, trained: bool = True) -> None:
    """Convert a slimmable model to the narrow stock model of a width, in place.

    Each slimmable layer becomes its stock class with the active part of its weights and the statistics of the width.
    Blocks that store a number of channels store the narrow number. Everything else stays, including the names in the
    checkpoint. Layers whose input segments are unknown are cut to the channels that they receive in a run on a small
    image.

    Args:
        model: A model with slimmable layers, made by the plan, by classes or by hand.
        width: Width multiplier in (0, 1].
        trained: Whether batch norms must have statistics for the width. If False, missing statistics have their initial
            values, for a model into which weights are loaded next.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: If it is outside (0, 1], if a batch norm has no statistics for it, if the model has no slimmable
            layer, if the model has layers of unknown input segments and does not run on a small image, or if a layer
            receives different numbers of channels in one run. The model must not be used after the last two errors.

    Examples:
        >>> narrow = copy.deepcopy(model)
        >>> narrow_(narrow, 0.5, trained=False)
        >>> model.backbone.conv1.out_channels, narrow.backbone.conv1.out_channels
        (32, 16)
    """
    width = check_ratio(width)
    norms = [layer for layer in slimmable_layers(model) if isinstance(layer, SlimBatchNorm2d)]
    if not trained:
        for norm in norms:
            norm.prepare_width(width)
    set_width(model, width)
    if trained:
        for norm in norms:
            norm.check_ready()
    names = {layer: name for name, layer in model.named_modules()}
    arriving = arriving_channels(model)
    blocks = [(block, block.narrow_values(width)) for block in model.modules() if hasattr(block, 'narrow_values')]
    for module in model.modules():
        if isinstance(module, SlimParameters):
            _narrow_parameters(module)
    for layer, numbers in arriving.items():
        if len(numbers) > 1:
            raise ValueError(
                f'{names[layer]} ({type(layer).__name__}) receives {" and ".join(map(str, sorted(numbers)))} channels '
                f'in one run at width {width:g}, so it is not one narrow layer. Use a separate layer for each number'
            )
        (number,) = numbers
        _narrow_layer(layer, number, names[layer])
    for block, values in blocks:
        _narrow_block(block, values)


def _narrow_layer(layer: Slimmable, channels: int, name: str) -> None:
    """Cut a layer to a number of input channels, in place."""
    kind = None
    if isinstance(layer, DividedLayer):
        kind = layer.narrow_class(channels)
        sizes = _narrow_weights(layer, channels, name)
    elif isinstance(layer, SlimBatchNorm2d):
        sizes = _narrow_batch_norm(layer, channels)
    elif isinstance(layer, (SlimGroupNorm, SlimLayerNorm, StockNorm)):
        sizes = layer.active_sizes(channels)
        _set_tensors(layer, layer.active_tensors(channels))
    else:
        raise ValueError(f'{name} ({type(layer).__name__}) cannot be narrowed: it is not a layer class of mmmutual')
    to_stock_(layer)
    layer.__class__ = kind or type(layer)
    for attribute, value in sizes.items():
        setattr(layer, attribute, value)


def _narrow_parameters(module: SlimParameters) -> None:
    """Cut the parameters of a module that slim, in place."""
    values = {name: active_parameter(module, name) for name in module.parameter_segments}
    while isinstance(module, SlimParameters):
        unslim_parameters_(module)
    _set_tensors(module, values)
    if isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.size(1)


def _narrow_weights(layer: DividedLayer, channels: int, name: str) -> dict[str, int]:
    """Cut the tensors whose channels slim; return the attributes of the narrow layer."""
    if 'weight' in layer.sides and 'weight' not in dict(layer.named_parameters(recurse=False)):
        raise ValueError(
            f'the weight of {name} ({type(layer).__name__}) is computed by a parametrization, so it cannot be cut. '
            'Remove it with torch.nn.utils.parametrize.remove_parametrizations'
        )
    sizes = layer.active_sizes(channels)
    tensors = layer.active_tensors(channels)
    _set_tensors(layer, tensors)
    for part in {name.rpartition('.')[0] for name in tensors if '.' in name}:
        module = layer.get_submodule(part)
        unit = 'features' if isinstance(module, nn.Linear) else 'channels'
        vars(module).update(zip((f'out_{unit}', f'in_{unit}'), module.weight.shape))
    return sizes


def _narrow_batch_norm(norm: SlimBatchNorm2d, channels: int) -> dict[str, int]:
    """Cut weight, bias and statistics of the width; return the attributes of the narrow norm."""
    parameters = dict(zip(('weight', 'bias'), norm.affine_parameters(norm.width)))
    statistics = dict(zip(('running_mean', 'running_var'), norm.statistics(norm.width)))
    tracked = norm.statistics(norm.width)[2]
    if channels != norm.num_features:
        parameters = {name: norm.active_part(value, channels) for name, value in parameters.items()}
        statistics = {name: norm.active_part(value, channels) for name, value in statistics.items()}
    _set_tensors(norm, parameters)
    for name, value in {**statistics, 'num_batches_tracked': tracked}.items():
        if value is not None:
            setattr(norm, name, value.clone())
    return dict(num_features=channels)


def _set_tensors(layer: nn.Module, values: Mapping[str, Tensor | None]) -> None:
    """Set copies of values as tensors of a layer or its parts; parameters keep the former ``requires_grad``."""
    for name, value in values.items():
        if value is None:
            continue
        part, _, own = name.rpartition('.')
        module, value = layer.get_submodule(part), value.detach().clone().contiguous()
        former = getattr(module, own)
        if isinstance(former, nn.Parameter):
            value = nn.Parameter(value, requires_grad=former.requires_grad)
        setattr(module, own, value)


def _narrow_block(block: nn.Module, values: dict[str, int]) -> None:
    """Convert the counterpart of a block to its stock class with the narrow values, in place."""
    while '_swapped' in vars(block):
        unswap_block_(block)
    while hasattr(block, 'narrow_values'):  # it was built as the counterpart, or as a subclass of it
        block.__class__ = type(block).__bases__[-1]
    for name, value in values.items():
        setattr(block, name, value)
