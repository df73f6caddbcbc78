"""A stock layer becomes slimmable in place, and stock again.

The layer stays the same object with the same parameters, buffers, hooks and flags; only its class changes, as
``torch.nn.utils.parametrize`` and FSDP do it. So whatever else refers to the layer, an optimizer to its parameters or a
second module that shares it, needs no update.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn.bricks import wrappers
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import nn

from .batch_norm import STATISTICS, SlimBatchNorm2d, key_suffix
from .channels import DIVISOR
from .conv import SlimConv2d
from .conv_transpose import SlimConvTranspose2d
from .conv_ws import SlimConvWS2d
from .forward import forget_forwards
from .group_norm import SlimGroupNorm
from .linear import SlimLinear
from .segments import Segment
from .sync_batch_norm import SlimSyncBatchNorm2d
from .width import Slimmable

COUNTERPARTS: dict[type[nn.Module], type[Slimmable]] = {
    nn.Conv2d: SlimConv2d,
    wrappers.Conv2d: SlimConv2d,
    ConvWS2d: SlimConvWS2d,
    nn.ConvTranspose2d: SlimConvTranspose2d,
    wrappers.ConvTranspose2d: SlimConvTranspose2d,
    nn.Linear: SlimLinear,
    wrappers.Linear: SlimLinear,
    nn.BatchNorm2d: SlimBatchNorm2d,
    nn.SyncBatchNorm: SlimSyncBatchNorm2d,
    SyncBatchNorm: SlimSyncBatchNorm2d,  # MMEngine's own, which norm_cfg builds
    nn.GroupNorm: SlimGroupNorm,
}


def can_slim(layer: nn.Module) -> bool:
    """Whether a layer is slimmable or of exactly a class that has a slimmable counterpart; a subclass may do more."""
    if isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1:
        return False
    return isinstance(layer, Slimmable) or type(layer) in COUNTERPARTS


def slim_layer_(layer: nn.Module, widths: Sequence[float], slim_out: bool = True) -> None:
    """Make a stock layer slimmable, in place.

    Args:
        layer: A layer that :func:`can_slim`; one that is slimmable already stays as it is.
        widths: The grid of widths for which a batch norm keeps statistics.
        slim_out: Whether the output of a convolution or linear layer slims; no effect on others.

    Raises:
        ValueError: For any other layer, or a grouped convolution without ``slim_out``.
    """
    if isinstance(layer, Slimmable):
        return
    if type(layer) not in COUNTERPARTS:
        names = ', '.join(sorted({kind.__name__ for kind in COUNTERPARTS}))
        raise ValueError(f'{type(layer).__name__} has no slimmable counterpart; these have one: {names}')
    stock = set(vars(layer))
    for name, value in vars(_donor(layer, slim_out)).items():
        vars(layer).setdefault(name, value)
    layer._swapped = (type(layer), set(vars(layer)) - stock)
    layer.__class__ = COUNTERPARTS[type(layer)]
    if isinstance(layer, SlimBatchNorm2d):
        for width in widths:
            layer.add_width(width)


def unslim_layer_(layer: nn.Module) -> None:
    """Give a layer that :func:`slim_layer_` changed its former class back, in place; any other stays as it is."""
    if '_swapped' not in vars(layer):
        return
    stock, added = layer._swapped
    if isinstance(layer, SlimBatchNorm2d):
        for name in {name + key_suffix(width) for name in STATISTICS for width in layer.widths if width != 1.0}:
            layer._buffers.pop(name, None)
    layer.__class__ = _stock_class(type(layer), stock)
    for name in (*added, '_swapped', 'width'):
        vars(layer).pop(name, None)
    forget_forwards(layer)


def _stock_class(kind: type[nn.Module], stock: type[nn.Module]) -> type[nn.Module]:
    """The class of a layer that is stock again; a parametrization (weight norm) added since stays."""
    slim = next(base for base in kind.__mro__ if base in COUNTERPARTS.values())
    if kind is slim:
        return stock
    members = {name: value for name, value in vars(kind).items() if name not in ('__dict__', '__weakref__')}
    return type(kind.__name__.replace(slim.__name__, stock.__name__), (stock,), members)


def slim_outputs_(layer: nn.Module, divisor: int = DIVISOR) -> None:
    """Let the output of a slimmable layer slim that has given all of its channels so far, in place.

    Args:
        layer: A slimmable convolution, transposed convolution or linear layer.
        divisor: The active outputs are a multiple of it.
    """
    layer.slim_out = True
    layer.divide(outputs=[Segment(_outputs(layer), divisor)])


def keep_outputs_(layer: nn.Module) -> None:
    """Let a slimmable layer give all of its outputs at every width, in place; a grouped convolution cannot.

    Args:
        layer: A slimmable convolution, transposed convolution or linear layer.
    """
    layer.divide(outputs=[Segment.complete(_outputs(layer))])
    layer.slim_out = False


def _outputs(layer: nn.Module) -> int:
    """Channels or features that a layer gives at full width."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _donor(layer: nn.Module, slim_out: bool) -> nn.Module:
    """A slimmable layer without memory, for the attributes that the stock layer lacks."""
    kind = COUNTERPARTS[type(layer)]
    if issubclass(kind, (SlimConv2d, SlimConvTranspose2d)):
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
        return kind(*sizes, groups=layer.groups, slim_out=slim_out, device='meta')
    if kind is SlimLinear:
        return kind(layer.in_features, layer.out_features, slim_out=slim_out, device='meta')
    if kind is SlimGroupNorm:
        return kind(layer.num_channels, layer.num_groups, device='meta')
    return kind(layer.num_features, device='meta')
