"""Costs and accuracy of sub-networks: counting, latency, the query table; plots are in ``evaluation.plotting``."""

from ..moved_names import moved
from .latency import Latency, device_name, measure_latency
from .multiply_adds import count_grid, count_multiply_adds
from .parameter_counts import count_parameters
from .query_table import MeasuredSubnet, QueryTable, fill_query_table
from .stock_point import stock_point
from .subnet_report import SubnetReportHook, subnet_rows, write_report
from .subnet_table import format_count, format_table, main_metrics

__all__ = [
    'Latency',
    'MeasuredSubnet',
    'QueryTable',
    'SubnetReportHook',
    'count_grid',
    'count_multiply_adds',
    'count_parameters',
    'device_name',
    'fill_query_table',
    'format_count',
    'format_table',
    'main_metrics',
    'measure_latency',
    'stock_point',
    'subnet_rows',
    'write_report',
]

__getattr__ = moved(__name__, {'mmmutual.evaluation': 'Cell:MeasuredSubnet'})
