"""Check the objects of a COCO file: which of them MMDetection keeps, and whether their boxes are valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .coco_entries import CocoEntries
from .completed_coco import NO_OUTLINE
from .outlines import check_outline, extent_of, has_outline

IGNORED = "that are marked 'ignore'"
OUTSIDE = 'with a box outside its image'
TOO_SMALL = 'with a box below 1 pixel'
NO_AREA = "with an 'area' of 0 or less"
OTHER_CLASS = 'of categories that are not among the classes'
NO_OUTLINES = 'without an outline, that is, a mask or a polygon of three or more corners'
NO_POLYGON = 'with a mask instead of polygons, which poly2mask=False needs'
MAX_COMPARED = 200  # outlines that are compared with their boxes
PIXELS = 2.0  # allowed error of a box; a hundredth of the image is allowed too
SHARE_BEYOND = 0.25  # of the boxes; if this many reach beyond their image, they may be corners


def left_out(entries: CocoEntries, classes: Sequence[str]) -> tuple[list[dict], Counter[str]]:
    """Sort the annotations as ``CocoDataset`` does.

    Args:
        entries: A checked file.
        classes: Names of the classes.

    Returns:
        The annotations that it keeps, including crowd regions, and the number of the other annotations by reason.
    """
    kept: list[dict] = []
    reasons: Counter[str] = Counter()
    for annotation in entries.annotations or ():
        category = entries.categories.get(annotation['category_id'])
        if category is None:
            reasons[f'of unknown categories, for example category_id {annotation["category_id"]!r}'] += 1
        elif category['name'] not in classes:
            reasons[OTHER_CLASS] += 1
        elif reason := _reason(annotation, entries.images[annotation['image_id']]):
            reasons[reason] += 1
        else:
            kept.append(annotation)
    return kept, reasons


def check_boxes(entries: CocoEntries) -> int:
    """Check that the boxes are x, y, width and height in pixels.

    Args:
        entries: A checked file.

    Returns:
        Number of boxes that reach beyond their image.

    Raises:
        ValueError: If they are instead fractions of the image, corners x1, y1, x2, y2 or centres.
    """
    if not entries.annotations:
        return 0
    boxes = np.array([annotation['bbox'] for annotation in entries.annotations], float)
    owners = [entries.images[annotation['image_id']] for annotation in entries.annotations]
    sizes = np.array([(image['width'], image['height']) for image in owners], float)
    example = f'for example {entries.annotations[0]["bbox"]} of annotation {entries.annotations[0]["id"]!r}'
    if boxes.min() >= 0 and boxes.max() <= 1 < sizes.min():
        raise ValueError(
            f"each 'bbox' lies between 0 and 1, {example}, as if in fractions of the image, but COCO format has "
            'pixels: multiply x and width by the width of the image, y and height by its height'
        )
    allowed = np.maximum(PIXELS, sizes / 100)
    beyond = (boxes[:, :2] + boxes[:, 2:] > sizes + allowed).any(1)
    corners = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= sizes + allowed).all()
    if corners and len(boxes) > 2 and beyond.mean() >= SHARE_BEYOND:
        raise ValueError(
            f"{beyond.sum()} of {len(boxes)} boxes reach beyond their image, and each 'bbox' is valid as corners "
            f'x1, y1, x2, y2, {example}, but COCO format has x, y, width and height: write x2 - x1 and y2 - y1 instead'
        )
    _compare_with_outlines(entries.annotations)
    return int(beyond.sum())


def check_outlines(entries: CocoEntries, kept: Sequence[Mapping], polygons_only: bool = False) -> Counter[str]:
    """Check the outlines of objects whose masks are loaded.

    Args:
        entries: A checked file.
        kept: The annotations that are loaded.
        polygons_only: Whether masks are ignored, as by ``LoadAnnotations(poly2mask=False)``.

    Returns:
        Number of objects that training ignores because of their outline, by reason. Crowd regions are always ignored.

    Raises:
        ValueError: If an outline is damaged, or if no object has one.
    """
    ignored: Counter[str] = Counter()
    objects = 0
    for annotation in kept:
        image = entries.images[annotation['image_id']]
        outline = annotation.get('segmentation')
        try:
            check_outline(outline, [image['height'], image['width']])
        except ValueError as error:
            raise ValueError(f'annotation {annotation["id"]!r}: {error}') from None
        if annotation['iscrowd']:
            continue
        objects += 1
        if not has_outline(annotation):
            ignored[NO_OUTLINES] += 1
        elif polygons_only and isinstance(outline, dict):
            ignored[NO_POLYGON] += 1
    if objects and objects == sum(ignored.values()):
        raise ValueError(
            f'all {objects} objects are {" or ".join(ignored)}, but masks are loaded. Use a config for boxes '
            '(LoadAnnotations without with_mask, a model without a mask head), or add the outlines'
        )
    return ignored


def without_outline(kept: Sequence[Mapping]) -> list[Mapping]:
    """The annotations without an outline, except for crowd regions."""
    return [one for one in kept if not one['iscrowd'] and not has_outline(one)]


def _reason(annotation: Mapping, image: Mapping) -> str | None:
    """The reason why mmdet's ``CocoDataset`` leaves an annotation out, None if it keeps it."""
    if annotation.get('ignore'):
        return IGNORED
    x, y, box_width, box_height = annotation['bbox']
    if box_width < 1 or box_height < 1:
        return TOO_SMALL
    right, bottom = min(x + box_width, image['width']), min(y + box_height, image['height'])
    if right <= max(x, 0) or bottom <= max(y, 0):
        return OUTSIDE
    return NO_AREA if annotation['area'] <= 0 else None


def _compare_with_outlines(annotations: Sequence[Mapping]) -> None:
    """Raise if the boxes do not enclose the outlines, but would enclose them as corners or around their centre."""
    step = -(-len(annotations) // MAX_COMPARED)
    pairs = []
    for annotation in annotations[::step]:
        outline: Any = annotation.get('segmentation')
        if outline is NO_OUTLINE or not has_outline(annotation) or not _is_readable(outline):
            continue
        if (extent := extent_of(outline)) is not None:
            pairs.append((annotation['bbox'], extent))
    if len(pairs) < 3:
        return
    boxes, extents = np.array(pairs, float).transpose(1, 0, 2)
    allowed = np.maximum(PIXELS, extents[:, 2:].max(1) * 0.1)
    readings = {
        '': boxes,
        'corners x1, y1, x2, y2': np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1),
        'the centre of the box with its width and height': np.concatenate(
            (boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]), 1
        ),
    }
    shares = {name: float((abs(boxes - extents).max(1) <= allowed).mean()) for name, boxes in readings.items()}
    best = max(shares, key=lambda name: shares[name])
    if best and shares[best] >= 0.9 and shares[''] < 0.5:
        raise ValueError(
            f"each 'bbox' should be x, y, width and height, but fits the outlines only as {best}, for example "
            f'{annotations[0]["bbox"]} of annotation {annotations[0]["id"]!r}: convert them'
        )


def _is_readable(outline: object) -> bool:
    size: Any = [0, 0]
    right = True
    if isinstance(outline, dict):
        size = outline.get('size')
        right = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    try:
        check_outline(outline, size)
    except ValueError:
        return False
    return right
