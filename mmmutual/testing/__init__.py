"""Checks of MMDetection's own configs: whether they can be made mutual and agree with the stock detector."""

from .config_check import check_config
from .config_survey import Outcome, families, outcome, write_table

__all__ = ['Outcome', 'check_config', 'families', 'outcome', 'write_table']
