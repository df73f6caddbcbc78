"""Slimmable necks."""

from .fpn import SlimmableFPN

__all__ = ['SlimmableFPN']
