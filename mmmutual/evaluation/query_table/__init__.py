"""The query table: costs and accuracy of each sub-network, and the best one within a budget."""

from .fill import fill_query_table
from .table import Cell, QueryTable

__all__ = ['Cell', 'QueryTable', 'fill_query_table']
