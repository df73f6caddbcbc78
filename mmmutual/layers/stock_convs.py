"""Slimmable counterparts of convolutions with a special ``forward``, which run that of the stock class."""

from __future__ import annotations

from typing import Any, ClassVar

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks.conv_ws import ConvAWS2d
from mmcv.ops import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d, ModulatedDeformConv2dPack, SAConv2d
from mmdet.models.backbones.trident_resnet import TridentConv
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmutual.tensor_tree import tensors_in

from .divided import DividedLayer
from .forward import slimmable_forward
from .frozen import operands_of
from .stock_forward import stock_forward


class StockConv(DividedLayer):
    """First base of a slimmable convolution; the second is the stock class.

    The active input channels are those of the input; the active output channels follow the width. All tensors in
    ``sides`` are cut.

    Args:
        *args: As the stock class.
        **kwargs: As the stock class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_up()

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether a deformable one has one set of offsets: each of several is for its share of all channels."""
        return getattr(layer, 'deform_groups', 1) == 1

    @slimmable_forward
    def forward(self, x: Tensor | list[Tensor], *args: Tensor) -> Tensor | list[Tensor]:
        """Run the stock ``forward`` with the active part of its tensors.

        Args:
            x: As the stock class, with ``in_channels`` or those of them that are active at the width.
            *args: As the stock class, for example offsets.

        Returns:
            As the stock class, with the active output channels.

        Raises:
            ValueError: For another number of channels.
        """
        return stock_forward(self, operands_of(self, next(tensors_in([x])).shape[-3]), x, *args)

    def active_operands(self, key: int) -> dict[str, Any]:
        """The attributes of the stock class that are narrow at the width, by name."""
        self.check_channels(key)
        active = {name: tensor.contiguous() for name, tensor in self.active_tensors(key).items()}
        return {**active, **self.active_sizes(key)}


# MMEngine initialises by the names of direct bases, so each class has those of its stock class too
class SlimConv2dAdaptivePadding(StockConv, Conv2dAdaptivePadding, nn.Conv2d):
    """mmcv's convolution with the padding of TensorFlow, as in EfficientNet."""


class SlimTridentConv(StockConv, TridentConv, BaseModule):
    """mmdet's convolution of TridentNet: one weight, and a dilation for each branch."""


class SlimConvAWS2d(StockConv, ConvAWS2d, nn.Conv2d):
    """mmcv's convolution with adaptive weight standardisation, for each output over the active inputs."""

    sides: ClassVar = {**DividedLayer.sides, 'weight_gamma': 'o---', 'weight_beta': 'o---'}


class SlimSAConv2d(StockConv, SAConv2d, ConvAWS2d):
    """mmcv's switchable atrous convolution, as in DetectoRS."""

    sides: ClassVar = {
        **SlimConvAWS2d.sides,
        'weight_diff': 'oi',
        'switch.weight': '-i',
        'switch.bias': '-',
        'pre_context.weight': 'ii',
        'pre_context.bias': 'i',
        'post_context.weight': 'oo',
        'post_context.bias': 'o',
        'offset_s.weight': '-i',
        'offset_s.bias': '-',
        'offset_l.weight': '-i',
        'offset_l.bias': '-',
    }


OFFSETS = {**DividedLayer.sides, 'conv_offset.weight': '-i', 'conv_offset.bias': '-'}


class SlimDeformConv2d(StockConv, DeformConv2d, nn.Module):
    """mmcv's deformable convolution with one set of offsets for all channels, which it is called with."""


class SlimModulatedDeformConv2d(StockConv, ModulatedDeformConv2d, nn.Module):
    """mmcv's modulated deformable convolution with one set of offsets for all channels, which it is called with."""


class SlimDeformConv2dPack(StockConv, DeformConv2dPack, DeformConv2d):
    """mmcv's deformable convolution ``DCN`` with one set of offsets for all channels."""

    sides: ClassVar = OFFSETS


class SlimModulatedDeformConv2dPack(StockConv, ModulatedDeformConv2dPack, ModulatedDeformConv2d):
    """mmcv's modulated deformable convolution ``DCNv2`` with one set of offsets for all channels."""

    sides: ClassVar = OFFSETS
