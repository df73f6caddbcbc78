"""Slimmable necks."""

from .concatenating import SlimmableCSPNeXtPAFPN, SlimmableHRFPN, SlimmableYOLOV3Neck, SlimmableYOLOXPAFPN
from .fpn import SlimmableFPN

__all__ = [
    'SlimmableCSPNeXtPAFPN',
    'SlimmableFPN',
    'SlimmableHRFPN',
    'SlimmableYOLOV3Neck',
    'SlimmableYOLOXPAFPN',
]
