"""Checkpoints: safe reading, fingerprints, atomic writes, converters of published weights."""

from mmmutual.moved_names import moved

from .classes import check_classes, warn_of_other_classes
from .finished import finished_length
from .model_loading import load_model
from .published_weights import PublishedWeights, convert_published
from .reading import check_architecture, latest_checkpoint, read_checkpoint
from .run_record import check_new_run, continue_run, record_run
from .trained_config import check_mutual, check_resumed_scope, is_mutual, narrow_widths

__all__ = [
    'PublishedWeights',
    'check_architecture',
    'check_classes',
    'check_mutual',
    'check_new_run',
    'check_resumed_scope',
    'continue_run',
    'convert_published',
    'finished_length',
    'is_mutual',
    'latest_checkpoint',
    'load_model',
    'narrow_widths',
    'read_checkpoint',
    'record_run',
    'warn_of_other_classes',
]

__getattr__ = moved(__name__, {'mmmutual.checkpoint': 'check_scope:check_resumed_scope'})
