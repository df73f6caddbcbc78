"""The roles of layers: whether a layer writes new channels, follows those of its input, or needs all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from inspect import signature
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from mmdet.models.layers import FrozenBatchNorm2d
from mmdet.models.necks.ssd_neck import L2Norm
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import Tensor, nn

from mmmutual.layers import (
    SlimAttention,
    SlimLayerNorm,
    SlimSinePositionalEncoding,
    StockNorm,
    can_slim,
    counterpart_of,
)
from mmmutual.layers.channels import DIVISOR
from mmmutual.tensor_tree import tensors_in
from mmmutual.upstream import AnyBatchNorm

from .blocks import SlimmableGenericRoIExtractor, SlimmableSingleRoIExtractor

OPAQUE = (nn.MultiheadAttention,)  # they call no layer inside
NORMS = (AnyBatchNorm, nn.GroupNorm, nn.LayerNorm, FrozenBatchNorm2d, L2Norm)
Owners: TypeAlias = list[tuple[nn.Module, str]]


class Role(Enum):
    """The role of a layer in the flow of channels."""

    WRITER = 'reads channels and writes others'
    RESIDUAL = 'reads channels and adds to them'
    SOURCE = 'writes channels and reads none'
    NORM = 'follows its input, channel by channel'
    GROUPED = 'follows its input, group by group'
    EXTRACTOR = 'follows each level of its input'
    STOCK = 'needs and writes all of its channels'


def role_of(module: nn.Module) -> Role | None:
    """The role of a module; None for one that is not a layer, but consists of layers and operations."""
    if type(module) in EXTRACTORS and not any(True for _ in module.parameters()):
        return Role.EXTRACTOR
    if isinstance(module, torch.jit.ScriptModule) or not _is_layer(module):  # a script accepts no hooks
        return None
    if not can_slim(module) or 'forward' in vars(module):  # a replaced method would stay with a slimmable class
        return Role.STOCK
    if is_norm(module):
        return Role.NORM
    if is_source(module):
        return Role.SOURCE
    if is_attention(module) and getattr(counterpart_of(type(module)), 'residual', False):
        return Role.RESIDUAL
    return Role.GROUPED if getattr(module, 'groups', 1) > 1 else Role.WRITER


def layers_of(model: nn.Module) -> dict[nn.Module, Role]:
    """The layers of a model with their roles, in the order of ``model.modules()``."""
    roles = {module: role_of(module) for module in model.modules()}
    inside = {
        part for module, role in roles.items() if role is not None for part in module.modules() if part is not module
    }
    return {module: role for module, role in roles.items() if role is not None and module not in inside}


def parameters_between(layers: Collection[nn.Module], modules: Collection[nn.Module]) -> dict[nn.Parameter, Owners]:
    """Parameters that operations between layers use, such as position embeddings and layer scales.

    Args:
        layers: The layers of a model.
        modules: Modules of the model.

    Returns:
        The parameters of these modules outside layers that are long enough to be cut along the last dimension, with the
        modules that have them and their names there.
    """
    inside = {part for layer in layers for part in layer.modules()}
    found: dict[nn.Parameter, Owners] = {}
    for module in modules:
        for name, parameter in module.named_parameters(recurse=False) if module not in inside else ():
            if parameter.dim() and parameter.size(-1) > DIVISOR:
                found.setdefault(parameter, []).append((module, name))
    return found


def channel_dim(layer: nn.Module, kwargs: Mapping[str, Any] = MappingProxyType({})) -> int:
    """The dimension of the channels in the input and output of a layer.

    Args:
        layer: The layer.
        kwargs: The keyword arguments of a call.

    Returns:
        The dimension.
    """
    if kwargs.get('data_format') == 'channel_last' or type(layer) in (nn.LayerNorm, SlimLayerNorm):
        return -1
    if isinstance(layer, nn.Linear) or is_attention(layer):
        return -1
    return 1 if is_norm(layer) or type(layer) in EXTRACTORS else -3


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer is a norm, whose channels are those of its input."""
    return isinstance(layer, NORMS) or issubclass(counterpart_of(type(layer)) or nn.Module, StockNorm)


def is_attention(layer: nn.Module) -> bool:
    """Whether a layer is an attention that can slim."""
    return issubclass(counterpart_of(type(layer)) or nn.Module, SlimAttention) and can_slim(layer)


def is_source(layer: nn.Module) -> bool:
    """Whether a layer writes channels that it computes from no others."""
    return issubclass(counterpart_of(type(layer)) or nn.Module, SlimSinePositionalEncoding)


def features(layer: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The input of a layer in a call: its first argument, or several levels in it; of an attention all tokens."""
    if is_source(layer):
        return []
    if is_attention(layer):
        named = signature(type(layer).forward).bind(layer, *args, **kwargs).arguments
        named |= named.pop('kwargs', {})
        given = [named.get(name) for name in getattr(counterpart_of(type(layer)), 'tokens', ())]
    else:
        given = [args[0] if args else next(iter(kwargs.values()))]
    return [value for value in tensors_in(given) if value.is_floating_point()]


def channels_out(layer: nn.Module) -> int:
    """The output channels of a layer at full width."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1]
    if is_source(layer):
        return 2 * layer.num_feats
    for name in ('out_channels', 'out_features', 'num_features', 'num_channels', 'embed_dims', 'embed_dim'):
        if hasattr(layer, name):
            return getattr(layer, name)
    raise AttributeError(f'{type(layer).__name__} names no channels')


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has weights or statistics and uses them itself."""
    if type(module).forward is nn.Module.forward:  # as a ParameterList
        return False
    own = any(weight.numel() > 1 for weight in module.parameters(recurse=False))
    leaf = not any(True for _ in module.children())
    has_kernel = isinstance(getattr(module, 'weight', None), nn.Parameter)  # a deformable one has its offsets inside
    vectors = all(weight.numel() == weight.size(-1) for weight in module.parameters(recurse=False) if weight.dim())
    is_scale = vectors and not type(module).__module__.startswith('torch.nn')
    if isinstance(module, nn.Embedding) or (is_scale and not can_slim(module)):  # parameters between layers
        return False
    known = isinstance(module, OPAQUE) or is_norm(module) or is_attention(module) or is_source(module)
    return known or (own and (leaf or has_kernel))


EXTRACTORS = (SingleRoIExtractor, GenericRoIExtractor, SlimmableSingleRoIExtractor, SlimmableGenericRoIExtractor)
