"""In-place distillation: the narrow passes of an iteration learn from its widest pass."""

from .base import Distillation, build_distillation
from .pearson import PearsonDistillation
from .roi import RoIDistillation
from .soft_label import SoftLabelDistillation

__all__ = [
    'Distillation',
    'PearsonDistillation',
    'RoIDistillation',
    'SoftLabelDistillation',
    'build_distillation',
]
