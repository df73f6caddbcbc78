"""Slimmable backbones."""

from .darknet import SlimmableCSPDarknet, SlimmableCSPNeXt, SlimmableDarknet
from .hrnet import SlimmableHRNet
from .mobilenet import MobileNetV1, SlimmableMobileNetV1, SlimmableMobileNetV2
from .resnet import (
    SlimBottle2neck,
    SlimmableRegNet,
    SlimmableRes2Net,
    SlimmableResNet,
    SlimmableResNetV1d,
    SlimmableResNeXt,
)
from .vgg import SlimmableVGG

__all__ = [
    'MobileNetV1',
    'SlimBottle2neck',
    'SlimmableCSPDarknet',
    'SlimmableCSPNeXt',
    'SlimmableDarknet',
    'SlimmableHRNet',
    'SlimmableMobileNetV1',
    'SlimmableMobileNetV2',
    'SlimmableRegNet',
    'SlimmableRes2Net',
    'SlimmableResNeXt',
    'SlimmableResNet',
    'SlimmableResNetV1d',
    'SlimmableVGG',
]
