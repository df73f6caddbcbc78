"""Slimmable backbones and necks, registered as MMDetection components."""

from .backbones import SlimmableResNet
from .necks import SlimmableFPN

__all__ = ['SlimmableFPN', 'SlimmableResNet']
