"""Checks of MMDetection's own configs: whether they can be made mutual and agree with the stock detector."""

from .config_check import Slimming, check_config
from .config_survey import Candidate, Outcome, families, outcome
from .survey_page import format_page

__all__ = ['Candidate', 'Outcome', 'Slimming', 'check_config', 'families', 'format_page', 'outcome']
