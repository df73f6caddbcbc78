"""Checkpoints: safe reading, fingerprints, atomic writes, converters of published weights."""

from .classes import warn_of_other_classes
from .model_loading import load_model
from .published_weights import PublishedWeights, convert_published
from .reading import check_architecture, latest_checkpoint, read_checkpoint
from .trained_config import check_mutual, check_scope

__all__ = [
    'PublishedWeights',
    'check_architecture',
    'check_mutual',
    'check_scope',
    'convert_published',
    'latest_checkpoint',
    'load_model',
    'read_checkpoint',
    'warn_of_other_classes',
]
