"""What programs call."""

from .build import build_model
from .checkpoint import check_architecture, latest_checkpoint, read_checkpoint
from .checkpoint_classes import warn_of_other_classes
from .config_changes import format_changes, write_mutual
from .config_file import config_name, load_config, require
from .config_override import override
from .image_files import find_images
from .inferencer import AdaptiveInferencer
from .launch import clear_errors, join_processes, prepare
from .load import load_model
from .mutual_config import make_mutual, make_mutual_with_plan
from .published_weights import PublishedWeights, convert_published
from .query_table import fill_query_table
from .show import show_widths
from .slim_share import format_share
from .start_check import check_model
from .trained_config import check_mutual, check_scope

__all__ = [
    'AdaptiveInferencer',
    'PublishedWeights',
    'build_model',
    'check_architecture',
    'check_model',
    'check_mutual',
    'check_scope',
    'clear_errors',
    'config_name',
    'convert_published',
    'fill_query_table',
    'find_images',
    'format_changes',
    'format_share',
    'join_processes',
    'latest_checkpoint',
    'load_config',
    'load_model',
    'make_mutual',
    'make_mutual_with_plan',
    'override',
    'prepare',
    'read_checkpoint',
    'require',
    'show_widths',
    'warn_of_other_classes',
    'write_mutual',
]
