"""Slimmable backbones and necks, registered as MMDetection components."""

from .backbones import SlimmableResNet
from .input_channels import input_channels
from .make_slimmable import PARTS, check_part, make_slimmable_, undo_slimmable_
from .necks import SlimmableFPN
from .slimmable_detector import build_slimmable_detector

__all__ = [
    'PARTS',
    'SlimmableFPN',
    'SlimmableResNet',
    'build_slimmable_detector',
    'check_part',
    'input_channels',
    'make_slimmable_',
    'undo_slimmable_',
]
