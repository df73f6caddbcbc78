"""Configs: reading, overriding, checking, scaling, making them mutual."""

from .config_changes import format_changes, write_mutual
from .config_file import config_name, load_config, require
from .elastic_config import make_elastic, without_initial_weights
from .fine_tuning import make_fine_tuning
from .mixed_precision import use_mixed_precision
from .model_building import build_model
from .mutual_config import make_mutual, make_mutual_with_plan
from .overrides import override
from .scaled_learning_rate import use_scaled_learning_rate
from .scaled_pipeline import nominal_size, scale_pipeline

__all__ = [
    'build_model',
    'config_name',
    'format_changes',
    'load_config',
    'make_elastic',
    'make_fine_tuning',
    'make_mutual',
    'make_mutual_with_plan',
    'nominal_size',
    'override',
    'require',
    'scale_pipeline',
    'use_mixed_precision',
    'use_scaled_learning_rate',
    'without_initial_weights',
    'write_mutual',
]
