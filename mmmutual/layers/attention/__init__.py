"""Slimmable attention: the first heads, each of its full size, between tokens of any active channels."""

from .base import SlimAttention
from .deformable import SlimMultiScaleDeformableAttention
from .multihead import DecoupledMultiheadAttention, SlimMultiheadAttention
from .window import DecoupledWindowMSA, SlimWindowMSA

__all__ = [
    'DecoupledMultiheadAttention',
    'DecoupledWindowMSA',
    'SlimAttention',
    'SlimMultiScaleDeformableAttention',
    'SlimMultiheadAttention',
    'SlimWindowMSA',
]
