"""The roles of layers: whether a layer writes new channels, follows those of its input, or needs all of them."""

from __future__ import annotations

from enum import Enum

import torch
from mmdet.models.layers import FrozenBatchNorm2d
from mmdet.models.necks.ssd_neck import L2Norm
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import nn

from mmmutual.layers import can_slim
from mmmutual.upstream import AnyBatchNorm

from .blocks import SlimmableGenericRoIExtractor, SlimmableSingleRoIExtractor

NORMS = (AnyBatchNorm, nn.GroupNorm, FrozenBatchNorm2d, L2Norm)
OPAQUE = (nn.MultiheadAttention,)  # they call no layer inside


class Role(Enum):
    """The role of a layer in the flow of channels."""

    WRITER = 'reads channels and writes others'
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
    if isinstance(module, NORMS):
        return Role.NORM
    return Role.GROUPED if getattr(module, 'groups', 1) > 1 else Role.WRITER


def layers_of(model: nn.Module) -> dict[nn.Module, Role]:
    """The layers of a model with their roles, in the order of ``model.modules()``."""
    roles = {module: role_of(module) for module in model.modules()}
    inside = {
        part for module, role in roles.items() if role is not None for part in module.modules() if part is not module
    }
    return {module: role for module, role in roles.items() if role is not None and module not in inside}


def channel_dim(layer: nn.Module) -> int:
    """The dimension of the channels in the input and output of a layer."""
    if isinstance(layer, nn.Linear):
        return -1
    return 1 if isinstance(layer, NORMS) or type(layer) in EXTRACTORS else -3


def weight_dim(layer: nn.Module, reads: bool) -> int:
    """The dimension of the input channels in the weight of a layer if it ``reads`` them, else that of the outputs."""
    return int(reads) if not isinstance(layer, nn.ConvTranspose2d) else int(not reads)


def channels_out(layer: nn.Module) -> int:
    """The output channels of a layer at full width."""
    for name in ('out_channels', 'out_features', 'num_features', 'num_channels'):
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
    return isinstance(module, (*OPAQUE, *NORMS)) or (own and (leaf or has_kernel))


EXTRACTORS = (SingleRoIExtractor, GenericRoIExtractor, SlimmableSingleRoIExtractor, SlimmableGenericRoIExtractor)
