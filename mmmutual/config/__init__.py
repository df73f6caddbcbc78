"""Configs: reading, overriding, checking, scaling, making them mutual."""

from .config_changes import format_changes, write_mutual
from .config_file import config_name, load_config, require
from .model_building import build_model
from .mutual_config import make_mutual, make_mutual_with_plan
from .overrides import override
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
