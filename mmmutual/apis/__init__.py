"""What programs call."""

from .checkpoint import check_architecture, latest_checkpoint, read_checkpoint
from .inferencer import AdaptiveInferencer
from .launch import clear_errors, join_processes, prepare
from .load import load_model
from .mutual_config import config_name, format_changes, load_config, make_mutual, write_mutual
from .published_weights import PublishedWeights, convert_published
from .query_table import fill_query_table
from .show import show_widths

__all__ = [
    'AdaptiveInferencer',
    'PublishedWeights',
    'check_architecture',
    'clear_errors',
    'config_name',
    'convert_published',
    'fill_query_table',
    'format_changes',
    'join_processes',
    'latest_checkpoint',
    'load_config',
    'load_model',
    'make_mutual',
    'prepare',
    'read_checkpoint',
    'show_widths',
    'write_mutual',
]
