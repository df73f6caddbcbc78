"""What sub-networks cost and reach: multiply-adds, tables, plots."""

from .compare import budgets_of, front, fronts, plot_fronts
from .controller import LatencyController
from .flops import count_grid, count_multiply_adds
from .instances import class_colors, draw_instances
from .latency import Latency, device_name, measure_latency
from .palette import drawable_meta
from .parameters import count_parameters
from .plot import plot_front, plot_subnets
from .query_table import Cell, QueryTable
from .report import write_query_report, write_report
from .table import format_count, format_table, main_metrics

__all__ = [
    'Cell',
    'Latency',
    'LatencyController',
    'QueryTable',
    'budgets_of',
    'class_colors',
    'count_grid',
    'count_multiply_adds',
    'count_parameters',
    'device_name',
    'draw_instances',
    'drawable_meta',
    'format_count',
    'format_table',
    'front',
    'fronts',
    'main_metrics',
    'measure_latency',
    'plot_front',
    'plot_fronts',
    'plot_subnets',
    'write_query_report',
    'write_report',
]
