"""Outlines of objects in COCO files: polygons, or masks as runs of pixels."""

from __future__ import annotations

from collections.abc import Mapping

from pycocotools import mask as mask_utils

from mmmutual.number_checks import is_number, is_whole


def is_polygon(polygon: object) -> bool:
    """Whether something is a list of the coordinates of three or more corners."""
    return polygon.__class__ is list and len(polygon) >= 6 and len(polygon) % 2 == 0


def has_outline(annotation: Mapping) -> bool:
    """Whether an annotation has a mask, or a polygon of three or more corners."""
    outline = annotation.get('segmentation')
    return bool(outline) and (
        isinstance(outline, dict) or (isinstance(outline, list) and any(map(is_polygon, outline)))
    )


def check_outline(outline: object, size: list[int]) -> None:
    """Check the ``segmentation`` of an annotation.

    Args:
        outline: The field. None, an empty list and an empty object mean that there is no outline, and are allowed.
        size: Height and width of the image in pixels.

    Raises:
        ValueError: If it is neither a list of polygons nor a mask of the image's size.
    """
    if not outline and (outline is None or isinstance(outline, (list, dict))):
        return
    if isinstance(outline, list):
        for polygon in outline:
            if not isinstance(polygon, list) or not all(map(is_number, polygon)):
                raise ValueError(f'a polygon should be a list of finite numbers, but is {short(polygon)}')
        return
    if not isinstance(outline, dict) or not {'counts', 'size'} <= set(outline):
        raise ValueError(
            f"'segmentation' should be a list of polygons, or an object with 'counts' and 'size', but is "
            f'{short(outline)}'
        )
    if outline['size'] != size:
        raise ValueError(f"the 'size' of its mask is {short(outline['size'])}, but that of its image {size}")
    pixels = count_pixels(outline['counts'])
    if pixels != size[0] * size[1]:
        raise ValueError(f"the 'counts' of its mask make {pixels} pixels, but its image has {size[0] * size[1]}")


def count_pixels(counts: object) -> int | str:
    """Count the pixels in the runs of a mask: with too many of them, ``pycocotools`` writes beyond its memory.

    Args:
        counts: Run lengths, or a text of ``pycocotools``.

    Returns:
        The number, or the text ``'no whole number of'`` for a message, if the runs are damaged.
    """
    if isinstance(counts, list):
        good = all(is_whole(run, 0) for run in counts)
        return sum(counts) if good else 'no whole number of'
    if not isinstance(counts, str):
        return 'no whole number of'
    runs: list[int] = []
    value = shift = 0
    for character in counts:  # five bits of a number, and a sixth if it continues; from the third number, differences
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return 'no whole number of'
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs) if not shift and all(run >= 0 for run in runs) else 'no whole number of'


def area_of(outline: list | dict, size: tuple[int, int]) -> float:
    """Area in pixels of an outline in an image of size (height, width)."""
    if isinstance(outline, dict) and not isinstance(outline['counts'], list):
        return float(mask_utils.area(outline))
    runs = mask_utils.frPyObjects(outline, *size)
    return float(mask_utils.area(mask_utils.merge(runs) if isinstance(outline, list) else runs))


def extent_of(outline: list | dict) -> tuple[float, float, float, float] | None:
    """The box x, y, width, height around a checked outline, None for a mask with uncompressed runs."""
    if isinstance(outline, dict):
        return tuple(mask_utils.toBbox(outline)) if isinstance(outline['counts'], str) else None
    xs = [x for polygon in outline for x in polygon[::2]]
    ys = [y for polygon in outline for y in polygon[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def short(value: object) -> str:
    """Represent a value in a message, in at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:97]}...'
