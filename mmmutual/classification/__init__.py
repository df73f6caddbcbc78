"""Classifiers, for pretraining backbones: importing this package needs mmpretrain, which detection does not need."""

from mmmutual.environment import find_mmpretrain

find_mmpretrain()

from .digits import DigitsDataset  # noqa: E402  (mmpretrain has to be importable first)
from .lighting import FloatLighting  # noqa: E402
from .linear_head import SlimmableLinearClsHead  # noqa: E402

__all__ = ['DigitsDataset', 'FloatLighting', 'SlimmableLinearClsHead']
