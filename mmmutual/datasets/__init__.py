"""The embedded shapes data set, and checks of the data a config names."""

from .data_check import check_data
from .palette import drawable_meta
from .shapes import draw_shapes
from .shapes_options import CLASSES

__all__ = ['CLASSES', 'check_data', 'draw_shapes', 'drawable_meta']
