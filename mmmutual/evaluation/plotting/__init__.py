"""Plots and pictures of sub-networks. Only this room imports matplotlib."""

from .drawn_instances import class_colors, draw_instances
from .fronts import budgets_of, front, fronts, plot_fronts
from .show_widths import show_widths
from .subnet_plots import plot_front, plot_subnets

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
