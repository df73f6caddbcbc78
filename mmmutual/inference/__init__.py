"""Inference with the sub-network that fits a budget."""

from .adaptive_inferencer import AdaptiveInferencer
from .image_folder import find_images
from .latency_controller import LatencyController

__all__ = [
    'AdaptiveInferencer',
    'LatencyController',
    'find_images',
]
