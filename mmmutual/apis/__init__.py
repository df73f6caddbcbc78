"""What programs call."""

from .checkpoint import check_architecture, read_checkpoint
from .launch import clear_errors, prepare
from .show import show_widths

__all__ = ['check_architecture', 'clear_errors', 'prepare', 'read_checkpoint', 'show_widths']
