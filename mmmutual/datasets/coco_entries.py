"""Check each field of the entries of a COCO annotation file: mmdet's own errors do not always name the entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmmutual.number_checks import is_number

from .completed_coco import complete
from .outlines import short

Check = tuple[Callable[[object], bool], str]


@dataclass
class CocoEntries:
    """The completed entries of a file.

    Args:
        images: By id.
        categories: By id, in the order of the file.
        annotations: In the order of the file, None if it has no such list; ``images`` has the image of each.
        completed: Number of completed entries, by kind of completion.
    """

    images: dict
    categories: dict
    annotations: list[dict] | None
    completed: Counter[str]


def read_entries(content: MutableMapping) -> CocoEntries:
    """Check the fields of all entries, and complete them in place as mmdet reads them.

    Args:
        content: The file; ``annotations`` may be absent, as in files of test images.

    Returns:
        The entries.

    Raises:
        ValueError: If a list or a field is absent or wrong, if two entries have the same id, if ids are partly numbers
            and partly texts, or if the image of an annotation is absent.
    """
    images = _checked(content, 'images', IMAGE)
    _checked(content, 'categories', CATEGORY)
    annotations = content.get('annotations')
    if 'annotations' in content:
        _checked(content, 'annotations', ANNOTATION)
        for index, annotation in enumerate(annotations or ()):
            if annotation['image_id'] not in images:
                where = f'annotation {annotation["id"]!r}' if 'id' in annotation else f'annotations[{index}]'
                raise ValueError(f'{where}: there is no image with its image_id {annotation["image_id"]!r}')
    completed = complete(content)
    categories = {category['id']: category for category in content['categories']}
    return CocoEntries({image['id']: image for image in content['images']}, categories, annotations, completed)


def check_classes(names: Sequence[str], classes: Sequence[str], ordered: bool = True) -> None:
    """Compare the categories of a file with the classes.

    Args:
        names: The categories, in the order of the file, in which mmdet numbers the labels.
        classes: The classes, in the order of their labels.
        ordered: Whether the data set keeps the order of the file.

    Raises:
        ValueError: If a class is not among the categories (mmdet would then number the classes after it differently),
            if the order differs, or if several categories have the same name.
    """
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise ValueError(
            f'metainfo.classes has {short(twice)} more than once, but the labels of the file are numbered by category. '
            'Name each class once'
        )
    absent = [name for name in classes if name not in names]
    if absent:
        raise ValueError(
            f'its categories are {short(list(names))}, but metainfo.classes also has {short(absent)}. Set '
            'metainfo=dict(classes=...) to the names in the file, or add a category that has no objects to the file'
        )
    used = [name for name in names if name in classes]
    twice = [name for name, count in Counter(used).items() if count > 1]
    if twice:
        raise ValueError(
            f'several categories that have objects share the name {short(twice)}. Give their annotations one '
            'category_id, or the categories different names'
        )
    if ordered and used != list(classes):
        raise ValueError(
            f'its categories come in the order {short(used)}, in which mmdet numbers the labels, but the classes '
            f'are {short(list(classes))}. Set metainfo=dict(classes=...) to the order in the file, or sort the '
            'categories in the file'
        )


def _is_whole(value: object) -> bool:
    return value.__class__ is int or (value.__class__ is float and value.is_integer())


def _is_id(value: object) -> bool:
    return value.__class__ is str or _is_whole(value)


def _is_key(value: Any) -> bool:
    return _is_id(value) and (value.__class__ is str or abs(value) < 2**63)  # evaluation sorts them with NumPy


def _is_side(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_flag(value: object) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)  # true and false are 1 and 0


KEY: Check = (_is_key, 'a whole number (below 2**63) or a text')
IMAGE: dict[str, Check] = {
    'id': KEY,
    'height': (_is_side, 'a whole number above 0'),
    'width': (_is_side, 'a whole number above 0'),
}
CATEGORY: dict[str, Check] = {
    'id': KEY,
    'name': (lambda value: isinstance(value, str), 'a text'),
}
ANNOTATION: dict[str, Check] = {
    'id': (_is_id, 'a whole number or a text'),
    'image_id': (_is_id, 'a whole number or a text'),
    'category_id': (_is_id, 'a whole number or a text'),
    'bbox': (_is_box, 'four finite numbers, x, y, width and height'),
    'area': (is_number, 'a finite number'),
    'iscrowd': (_is_flag, '0 or 1'),
}
OPTIONAL = {'annotations': {'id', 'area', 'iscrowd'}}  # absent or null


def _checked(content: Mapping, name: str, checks: Mapping[str, Check]) -> dict:
    """Check the entries of a list; return them by id."""
    entries = content.get(name)
    if not isinstance(entries, list):
        raise ValueError(f'it has no list {name!r}')
    fields = [(field, is_right, field in OPTIONAL.get(name, ())) for field, (is_right, _) in checks.items()]
    found: dict = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f'{name}[{index}] should be an object, but is {short(entry)}')
        for field, is_right, optional in fields:
            value = entry.get(field)
            if not is_right(value) and not (optional and value is None):
                raise ValueError(_fault(f'{name}[{index}]', entry, field, checks[field][1]))
        identity = entry.get('id')
        if identity in found:
            raise ValueError(f'{name}[{index}] with id {identity!r}: an earlier one has the same id')
        if identity is not None:
            found[identity] = entry
    if name != 'annotations' and len({isinstance(identity, str) for identity in found}) > 1:
        raise ValueError(f"some 'id' of its {name} are numbers and some are texts, which evaluation cannot sort")
    return found


def _fault(where: str, entry: Mapping, field: str, wanted: str) -> str:
    if field != 'id' and _is_id(entry.get('id')):
        where += f' with id {entry["id"]!r}'
    if field not in entry:
        return f'{where} has no {field!r}'
    return f'{where}: {field!r} should be {wanted}, but is {short(entry[field])}'
