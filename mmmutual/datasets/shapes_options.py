"""The options of a drawn set of shapes, and the names of its classes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ('train', 'val')
SHAPES = ('circle', 'square', 'triangle', 'star')
TEXTURES = ('striped', 'dotted', 'checked', 'solid')
DEFAULT_SHAPES = ('circle', 'triangle')
DEFAULT_TEXTURES = ('striped', 'solid')
CLASSES = tuple(f'{texture} {shape}' for texture in TEXTURES for shape in SHAPES)


def class_names(shapes: Sequence[str] = DEFAULT_SHAPES, textures: Sequence[str] = DEFAULT_TEXTURES) -> tuple[str, ...]:
    """Name the classes of a selection of shapes and textures, in the order of ``CLASSES``.

    Pass the names as ``metainfo=dict(classes=...)`` to a data set that is drawn with that selection.
    """
    return tuple(
        f'{texture} {shape}' for texture in TEXTURES if texture in textures for shape in SHAPES if shape in shapes
    )


@dataclass(frozen=True)
class ShapesOptions:
    """Options that determine a drawn set.

    Args:
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Side of the square images in pixels.
        seed: Seed of the random draws.
        shapes: Selection from ``SHAPES``.
        textures: Selection from ``TEXTURES``.
        min_size: Smallest nominal size of an object, the diameter of a circle, in pixels.
        max_size: Largest nominal size in pixels; 5/8 of ``image_size`` if None. Sizes are
            drawn log-uniformly in between.
        min_objects: Fewest objects drawn in an image. An object without a free place is left
            out, so that a crowded image may have fewer.
        max_objects: Most objects drawn in an image.
        min_visible: Smallest visible share of the area of every object; objects in front of
            it and the border of the image may hide the rest.

    Raises:
        ValueError: If an argument is not allowed.
    """

    num_train: int = 1000
    num_val: int = 100
    image_size: int = 128
    seed: int = 0
    shapes: Sequence[str] = DEFAULT_SHAPES
    textures: Sequence[str] = DEFAULT_TEXTURES
    min_size: float = 20
    max_size: float | None = None
    min_objects: int = 3
    max_objects: int = 7
    min_visible: float = 0.5

    def __post_init__(self) -> None:
        _check_range('num_train', self.num_train, 1)
        _check_range('num_val', self.num_val, 1)
        _check_range('image_size', self.image_size, 32)
        _check_range('seed', self.seed, 0)
        set_field = functools.partial(object.__setattr__, self)  # the class is frozen
        set_field('shapes', _select('shapes', self.shapes, SHAPES))
        set_field('textures', _select('textures', self.textures, TEXTURES))
        set_field('max_size', self.largest)
        _check_range('max_size', self.largest, 8, self.image_size)
        _check_range('min_size', self.min_size, 8, self.largest)
        _check_range('max_objects', self.max_objects, 1)
        _check_range('min_objects', self.min_objects, 1, self.max_objects)
        _check_range('min_visible', self.min_visible, 0, 1)

    @property
    def largest(self) -> float:
        """Largest nominal size in pixels."""
        return self.image_size * 5 / 8 if self.max_size is None else self.max_size


def _check_range(name: str, value: float, low: float, high: float = np.inf) -> None:
    if not low <= value <= high:
        allowed = f'at least {low:g}' + ('' if high == np.inf else f' and at most {high:g}')
        raise ValueError(f'{name}={value} is not allowed: pass {allowed}')


def _select(name: str, values: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Sort a selection into the order of ``known``, so that equal sets have equal arguments."""
    values = tuple(values)
    if not values or not set(values) <= set(known):
        raise ValueError(f'{name}={values} is not allowed: pass one or more of {known}')
    return tuple(value for value in known if value in values)
