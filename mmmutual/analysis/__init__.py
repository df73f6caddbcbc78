"""What sub-networks cost and reach: multiply-adds, tables, plots."""

from .flops import count_grid, count_multiply_adds
from .plot import plot_subnets
from .report import write_report
from .table import format_table, main_metrics

__all__ = ['count_grid', 'count_multiply_adds', 'format_table', 'main_metrics', 'plot_subnets', 'write_report']
