"""Make a stock layer slimmable in place, and stock again.

The layer stays the same object with the same parameters, buffers, hooks and flags; only its class changes, as
``torch.nn.utils.parametrize`` and FSDP do it. So whatever else refers to the layer, an optimizer to its parameters or a
second module that shares it, needs no update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from mmcv.cnn.bricks import Conv2dAdaptivePadding, wrappers
from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    MultiScaleDeformableAttention,
    SAConv2d,
)
from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.backbones.trident_resnet import TridentConv
from mmdet.models.layers import FrozenBatchNorm2d, SinePositionalEncoding
from mmdet.models.necks.ssd_neck import L2Norm
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import nn

from .attention import SlimMultiheadAttention, SlimMultiScaleDeformableAttention, SlimWindowMSA
from .batch_norm import SlimBatchNorm2d
from .conv import SlimConv2d
from .conv_transpose import SlimConvTranspose2d
from .conv_ws import SlimConvWS2d
from .divided import DividedLayer
from .forward import FORWARDS
from .group_norm import SlimGroupNorm
from .layer_norm import SlimLayerNorm
from .linear import SlimLinear
from .position_encoding import SlimSinePositionalEncoding
from .segments import Segment
from .stock_convs import (
    SlimConv2dAdaptivePadding,
    SlimConvAWS2d,
    SlimDeformConv2d,
    SlimDeformConv2dPack,
    SlimModulatedDeformConv2d,
    SlimModulatedDeformConv2dPack,
    SlimSAConv2d,
    SlimTridentConv,
)
from .stock_norms import SlimFrozenBatchNorm2d, SlimL2Norm
from .sync_batch_norm import SlimSyncBatchNorm2d
from .width import Slimmable, check_ratios

COUNTERPARTS: dict[type[nn.Module], type[Slimmable]] = {
    nn.Conv2d: SlimConv2d,
    wrappers.Conv2d: SlimConv2d,
    ConvWS2d: SlimConvWS2d,
    ConvAWS2d: SlimConvAWS2d,
    SAConv2d: SlimSAConv2d,
    Conv2dAdaptivePadding: SlimConv2dAdaptivePadding,
    TridentConv: SlimTridentConv,
    DeformConv2d: SlimDeformConv2d,
    ModulatedDeformConv2d: SlimModulatedDeformConv2d,
    DeformConv2dPack: SlimDeformConv2dPack,
    ModulatedDeformConv2dPack: SlimModulatedDeformConv2dPack,
    nn.ConvTranspose2d: SlimConvTranspose2d,
    wrappers.ConvTranspose2d: SlimConvTranspose2d,
    nn.Linear: SlimLinear,
    wrappers.Linear: SlimLinear,
    nn.BatchNorm2d: SlimBatchNorm2d,
    nn.SyncBatchNorm: SlimSyncBatchNorm2d,
    SyncBatchNorm: SlimSyncBatchNorm2d,  # MMEngine's, which norm_cfg builds
    nn.GroupNorm: SlimGroupNorm,
    nn.LayerNorm: SlimLayerNorm,
    nn.MultiheadAttention: SlimMultiheadAttention,
    WindowMSA: SlimWindowMSA,
    MultiScaleDeformableAttention: SlimMultiScaleDeformableAttention,
    SinePositionalEncoding: SlimSinePositionalEncoding,
    FrozenBatchNorm2d: SlimFrozenBatchNorm2d,
    L2Norm: SlimL2Norm,
}
OWN = (  # attributes that a swap sets
    'slim_out', 'inside_groups', 'in_segments', 'out_segments', 'segments', 'widths', 'declared_widths', '_swapped',
)  # fmt: skip
STATE = ('width', 'pooled', '_kept', '_known_ready', FORWARDS)  # other attributes that only slimmable layers have


def counterpart_of(kind: type[nn.Module]) -> type[Slimmable] | None:
    """The slimmable counterpart of exactly this class of layers, which is the class itself if it is slimmable.

    Args:
        kind: The class.

    Returns:
        Its counterpart, or None: a subclass of a class with a counterpart may do more.
    """
    if kind.__module__.startswith('mmpretrain.'):  # it is optional, so its layers are only known where there are any
        import_module('.mmpretrain_layers', __package__)
    return kind if issubclass(kind, Slimmable) else COUNTERPARTS.get(kind)


def can_slim(layer: nn.Module) -> bool:
    """Whether a layer is slimmable, or of a class with a slimmable counterpart that fits its options."""
    counterpart = counterpart_of(type(layer))
    return isinstance(layer, Slimmable) or (counterpart is not None and counterpart.fits(layer))


def channel_sides(layer: nn.Module) -> Mapping[str, str]:
    """The tensors of a convolution or linear layer whose channels slim, as ``DividedLayer.sides``.

    Args:
        layer: A layer that ``can_slim``, stock or slimmable.

    Returns:
        A letter for each dimension, by the tensor's name; empty for any other layer.
    """
    return getattr(counterpart_of(type(layer)), 'sides', {})


def slim_layer_(
    layer: nn.Module,
    widths: Sequence[float] | None,
    inputs: Sequence[Segment] | None = None,
    outputs: Sequence[Segment] | None = None,
) -> None:
    """Make a stock layer slimmable, in place.

    A layer that is slimmable already gets the segments, and a batch norm the widths that it lacks.

    Args:
        layer: A layer that ``can_slim``.
        widths: The grid of widths for which a batch norm keeps statistics. None declares no grid, for a layer that
            runs at the widths of the layers around it.
        inputs: The segments of the input of a convolution or linear layer, or those of a norm's channels. None leaves
            them unknown.
        outputs: The segments of the output of a convolution or linear layer, all full if it does not slim; no effect
            on norms. None is one segment; of a grouped layer, the segments that follow from ``inputs``.

    Raises:
        ValueError: For any other layer, or for segments that the layer cannot have. The layer is then unchanged.
    """
    counterpart = counterpart_of(type(layer))
    if counterpart is None:
        names = ', '.join(sorted({kind.__name__ for kind in COUNTERPARTS}))
        raise ValueError(f'{type(layer).__name__} has no slimmable counterpart; these have one: {names}')
    kind, state = type(layer), vars(layer)
    former = {name: state[name] for name in _own_names(kind) if name in state}
    if not isinstance(layer, Slimmable):
        layer.__class__ = counterpart
        layer.set_up()
    state['_swapped'] = (kind, former)
    try:
        if isinstance(layer, DividedLayer):
            layer.slim_out = layer.slim_out or outputs is not None
            layer.divide(inputs, outputs)
            if outputs is not None and (layer.groups == 1 or layer.inside_groups):
                layer.slim_out = not all(segment.is_full for segment in layer.out_segments)
        elif inputs is not None:
            layer.divide(inputs)
        if isinstance(layer, SlimBatchNorm2d):
            for width in widths or ():
                layer.prepare_width(width)
        if widths is not None:
            layer.declared_widths = check_ratios(widths)
    except Exception:
        unslim_layer_(layer)
        raise


def unslim_layer_(layer: nn.Module) -> None:
    """Undo the last ``slim_layer_`` of a layer, in place; any other layer does not change.

    Later changes of parameters, buffers, hooks and flags stay. The statistics of the other widths are dropped.
    """
    state = vars(layer)
    if '_swapped' not in state:
        return
    kind, former = state['_swapped']
    if isinstance(layer, SlimBatchNorm2d):
        for width in set(layer.widths) - set(former.get('widths', (1.0,))):
            layer.drop_width(width)
    layer.__class__ = _without_swap(type(layer), kind)
    for name in _own_names(kind):
        if name in former:
            state[name] = former[name]
        else:
            state.pop(name, None)


def to_stock_(layer: nn.Module) -> None:
    """Make a slimmable layer stock, in place, also one that was built slimmable: the layer of width 1.0.

    Args:
        layer: Any layer; one that is not slimmable does not change.
    """
    state: dict[str, Any] = vars(layer)
    while '_swapped' in state:
        unslim_layer_(layer)
    if not isinstance(layer, Slimmable):
        return
    for width in getattr(layer, 'widths', (1.0,)):
        if width != 1.0:
            layer.drop_width(width)
    kind = next(base for base in type(layer).__mro__ if base in COUNTERPARTS.values())
    layer.__class__ = next(stock for stock, slim in COUNTERPARTS.items() if slim is kind)
    for name in (*OWN, *STATE):
        state.pop(name, None)


def _own_names(kind: type[nn.Module]) -> tuple[str, ...]:
    """The attributes of a layer of a class that a swap and what follows may add or change."""
    return OWN if issubclass(kind, Slimmable) else (*OWN, *STATE)


def _without_swap(present: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a layer that is of ``kind`` again; a parametrization (weight norm) added since stays."""
    if issubclass(kind, Slimmable):
        return present
    slim = next(base for base in present.__mro__ if base in COUNTERPARTS.values())
    if present is slim:
        return kind
    members = {name: value for name, value in vars(present).items() if name not in ('__dict__', '__weakref__')}
    return type(present.__name__.replace(slim.__name__, kind.__name__), (kind,), members)
