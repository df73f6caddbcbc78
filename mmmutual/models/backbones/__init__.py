"""Slimmable backbones."""

from .resnet import SlimmableResNet

__all__ = ['SlimmableResNet']
