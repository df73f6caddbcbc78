"""Configs: reading, overriding, checking, scaling, making them mutual."""

from .build_model import build_model
from .config_changes import format_changes, write_mutual
from .config_file import config_name, load_config, require
from .make_mutual import make_mutual, make_mutual_with_plan
from .override import override
from .scaled_pipeline import nominal_size, scale_pipeline

__all__ = [
    'build_model',
    'config_name',
    'format_changes',
    'load_config',
    'make_mutual',
    'make_mutual_with_plan',
    'nominal_size',
    'override',
    'require',
    'scale_pipeline',
    'write_mutual',
]
