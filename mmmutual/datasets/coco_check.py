"""Each entry of a COCO annotation file is checked: at some faults mmdet stops without a name, from others it learns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

Check = tuple[Callable[[object], bool], str]
TOO_SMALL = 'with a box below 1 pixel or outside its image'
OTHER_CLASS = 'of categories that are not among the classes'
NO_OUTLINE = 'whose polygons have fewer than three corners (their masks are ignored)'


def check_coco(content: Mapping, classes: Sequence[str], for_training: bool = True) -> Counter[str]:
    """Check the entries of an annotation file.

    Args:
        content: The file; its ``images`` have a ``file_name`` each.
        classes: Names of the classes that the data set is to have, in the order of their labels.
        for_training: Whether there have to be annotations; files of test images have none.

    Returns:
        What mmdet leaves out, by reason.

    Raises:
        ValueError: If an entry is wrong, with its id and field, or if the labels would not be those of ``classes``.
    """
    images = _by_id(content, 'images', IMAGE)
    categories = _by_id(content, 'categories', CATEGORY)
    _check_classes([category['name'] for category in categories.values()], classes)
    left_out: Counter[str] = Counter()
    if 'annotations' not in content and not for_training:
        return left_out
    for annotation in _by_id(content, 'annotations', ANNOTATION).values():
        where = f'annotation {annotation["id"]!r}'
        if annotation['image_id'] not in images:
            raise ValueError(f'{where}: there is no image with its image_id {annotation["image_id"]!r}')
        if annotation['category_id'] not in categories:
            left_out[f'of unknown categories, as category_id {annotation["category_id"]!r}'] += 1
            continue
        if categories[annotation['category_id']]['name'] not in classes:
            left_out[OTHER_CLASS] += 1
            continue
        image = images[annotation['image_id']]
        if _too_small(annotation, image):
            left_out[TOO_SMALL] += 1
            continue
        _check_outline(annotation.get('segmentation'), image, where, left_out)
    return left_out


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)  # true and false are 1 and 0


IMAGE: dict[str, Check] = {
    'id': (_is_id, 'a whole number or a text'),
    'height': (_is_side, 'a whole number above 0'),
    'width': (_is_side, 'a whole number above 0'),
}
CATEGORY: dict[str, Check] = {
    'id': (_is_id, 'a whole number or a text'),
    'name': (lambda value: isinstance(value, str), 'a text'),
}
ANNOTATION: dict[str, Check] = {
    'id': (_is_id, 'a whole number or a text'),
    'image_id': (_is_id, 'a whole number or a text'),
    'category_id': (_is_id, 'a whole number or a text'),
    'bbox': (_is_box, 'four finite numbers, x, y, width and height'),
    'area': (_is_number, 'a finite number'),
    'iscrowd': (_is_flag, '0 or 1'),
}
OPTIONAL = {'iscrowd'}


def _by_id(content: Mapping, name: str, checks: Mapping[str, Check]) -> dict:
    """The entries of a list, each checked."""
    entries = content.get(name)
    if not isinstance(entries, list):
        raise ValueError(f'it has no list {name!r}')
    found: dict = {}
    for index, entry in enumerate(entries):
        where = f'{name}[{index}]'
        if not isinstance(entry, dict):
            raise ValueError(f'{where} should be an object, but is {_short(entry)}')
        if _is_id(entry.get('id')):
            where += f' with id {entry["id"]!r}'
        for field, (is_right, wanted) in checks.items():
            if field not in entry and field in OPTIONAL:
                continue
            if field not in entry:
                raise ValueError(f'{where} has no {field!r}')
            if not is_right(entry[field]):
                raise ValueError(f'{where}: {field!r} should be {wanted}, but is {_short(entry[field])}')
        if entry['id'] in found:
            raise ValueError(f'{where}: an earlier one has the same id')
        found[entry['id']] = entry
    return found


def _check_classes(names: Sequence[str], classes: Sequence[str]) -> None:
    """Labels are numbered in the file's order by mmdet, which leaves out classes that the file has not."""
    absent = [name for name in classes if name not in names]
    if absent:
        raise ValueError(
            f'its categories are {_short(list(names))}, but the data set is to have {_short(absent)} too. Set '
            'metainfo=dict(classes=...) to the names in the file'
        )
    ordered = [name for name in names if name in classes]
    if ordered != list(classes):
        raise ValueError(
            f'its categories come in the order {_short(ordered)}, in which mmdet numbers the labels, but the classes '
            f'are {_short(list(classes))}. Set metainfo=dict(classes=...) to the order in the file'
        )


def _too_small(annotation: Mapping, image: Mapping) -> bool:
    """Whether mmdet's ``CocoDataset`` leaves an annotation out."""
    x, y, width, height = annotation['bbox']
    inside = min(x + width, image['width']) > max(x, 0) and min(y + height, image['height']) > max(y, 0)
    return not inside or width < 1 or height < 1 or annotation['area'] <= 0


def _check_outline(outline: object, image: Mapping, where: str, left_out: Counter[str]) -> None:
    if not outline and (outline is None or isinstance(outline, (list, dict))):
        return
    if isinstance(outline, list):
        for polygon in outline:
            if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
                raise ValueError(f'{where}: a polygon should be a list of finite numbers, but is {_short(polygon)}')
        if not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in outline):
            left_out[NO_OUTLINE] += 1
        return
    if not isinstance(outline, dict) or not {'counts', 'size'} <= set(outline):
        raise ValueError(
            f"{where}: 'segmentation' should be a list of polygons, or an object with 'counts' and 'size', but is "
            f'{_short(outline)}'
        )
    size = [image['height'], image['width']]
    if outline['size'] != size:
        raise ValueError(f"{where}: the 'size' of its mask is {_short(outline['size'])}, but that of its image {size}")
    pixels = _pixels(outline['counts'])
    if pixels != size[0] * size[1]:
        raise ValueError(
            f"{where}: the 'counts' of its mask make {pixels} pixels, but its image has {size[0] * size[1]}"
        )


def _pixels(counts: object) -> int | str:
    """How many pixels the runs of a mask cover; ``pycocotools`` writes beyond its memory if they are too many."""
    if isinstance(counts, list):
        good = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in counts)
        return sum(counts) if good else 'no whole number of'
    if not isinstance(counts, str):
        return 'no whole number of'
    runs: list[int] = []
    value = shift = 0
    for character in counts:  # five bits each, the sixth says that the number goes on; from the third, differences
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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:97]}...'
