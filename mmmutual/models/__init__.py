"""Slimmable backbones and necks, registered as MMDetection components."""

from .backbones import SlimmableResNet
from .necks import SlimmableFPN
from .slimmable_detector import build_slimmable_detector

__all__ = ['SlimmableFPN', 'SlimmableResNet', 'build_slimmable_detector']
