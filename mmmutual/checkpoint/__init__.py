"""Checkpoints: safe reading, fingerprints, atomic writes, converters of published weights."""

from mmmutual.moved_names import moved

from .classes import warn_of_other_classes
from .model_loading import load_model
from .published_weights import PublishedWeights, convert_published
from .reading import check_architecture, latest_checkpoint, read_checkpoint
from .trained_config import check_mutual, check_resumed_scope

__all__ = [
    'PublishedWeights',
    'check_architecture',
    'check_mutual',
    'check_resumed_scope',
    'convert_published',
    'latest_checkpoint',
    'load_model',
    'read_checkpoint',
    'warn_of_other_classes',
]

__getattr__ = moved(__name__, {'mmmutual.checkpoint': 'check_scope:check_resumed_scope'})
