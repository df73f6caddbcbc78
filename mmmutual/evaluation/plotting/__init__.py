"""Plots and pictures of sub-networks. Only this room imports matplotlib."""

from .drawn_instances import class_colors, draw_instances
from .fronts import budgets_of, front, fronts, plot_fronts
from .subnet_plots import plot_front, plot_subnets
from .width_sheet import show_widths

__all__ = [
    'budgets_of',
    'class_colors',
    'draw_instances',
    'front',
    'fronts',
    'plot_front',
    'plot_fronts',
    'plot_subnets',
    'show_widths',
]
