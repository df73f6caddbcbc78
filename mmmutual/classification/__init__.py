"""Classifiers, to pretrain backbones with: importing it needs mmpretrain, which detection does without."""

from mmmutual.environment import find_mmpretrain

find_mmpretrain()

from .digits import DigitsDataset  # noqa: E402  (mmpretrain is looked for first)
from .lighting import FloatLighting  # noqa: E402
from .linear_head import SlimmableLinearClsHead  # noqa: E402

__all__ = ['DigitsDataset', 'FloatLighting', 'SlimmableLinearClsHead']
