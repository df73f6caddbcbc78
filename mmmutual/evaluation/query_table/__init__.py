"""The query table: costs and accuracy of each sub-network, and the best one within a budget."""

from .fill import fill_query_table
from .table import MeasuredSubnet, QueryTable

__all__ = ['MeasuredSubnet', 'QueryTable', 'fill_query_table']
