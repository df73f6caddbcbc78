"""Slimmable backbones."""

from .darknet import SlimmableCSPDarknet, SlimmableCSPNeXt, SlimmableDarknet
from .hrnet import SlimmableHRNet
from .mobilenet import MobileNetV1, SlimmableMobileNetV1, SlimmableMobileNetV2
from .pvt import SlimmablePVT, SlimmablePVTv2, SlimmablePyramidVisionTransformer, SlimmablePyramidVisionTransformerV2
from .resnet import (
    SlimmableRegNet,
    SlimmableRes2Net,
    SlimmableResNet,
    SlimmableResNetV1d,
    SlimmableResNeXt,
)
from .swin import SlimmableSwin, SlimmableSwinTransformer
from .vgg import SlimmableVGG

__all__ = [
    'MobileNetV1',
    'SlimmableCSPDarknet',
    'SlimmableCSPNeXt',
    'SlimmableDarknet',
    'SlimmableHRNet',
    'SlimmableMobileNetV1',
    'SlimmableMobileNetV2',
    'SlimmablePVT',
    'SlimmablePVTv2',
    'SlimmablePyramidVisionTransformer',
    'SlimmablePyramidVisionTransformerV2',
    'SlimmableRegNet',
    'SlimmableRes2Net',
    'SlimmableResNeXt',
    'SlimmableResNet',
    'SlimmableResNetV1d',
    'SlimmableSwin',
    'SlimmableSwinTransformer',
    'SlimmableVGG',
]
