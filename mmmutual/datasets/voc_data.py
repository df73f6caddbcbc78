"""Check each file of an ``XMLDataset`` of a config (annotations of Pascal VOC)."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmdet.datasets import XMLDataset

from mmmutual.upstream import VOC_METHODS

from .dataset_config import DatasetUse
from .image_files import check_files, check_headers
from .outlines import short

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass
class _Found:
    """Numbers of images and objects in the files."""

    images: int = 0
    objects: int = 0
    ignored: int = 0
    other_classes: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def reads_voc(use: DatasetUse) -> bool:
    """Whether a data set is an ``XMLDataset``, or a subclass that reads its files as ``XMLDataset`` does."""
    return use.kind is not None and issubclass(use.kind, XMLDataset) and use.is_stock(XMLDataset, *VOC_METHODS)


def check_voc_data(use: DatasetUse) -> Iterator[str]:
    """Check a data set.

    Args:
        use: A data set for which ``reads_voc`` is true.

    Yields:
        A note for the user, one sentence each.

    Raises:
        FileNotFoundError: If an annotation file or an image is missing.
        ValueError: If a file is damaged, a box has no size, or nothing is left to train on.
    """
    path, node = use.annotations, use.node
    if use.classes is None:
        raise ValueError(f"the {use.kind.__name__} of {path} has no classes: set metainfo=dict(classes=('name', ...))")
    root = use.path((node.get('data_prefix') or {}).get('sub_data_root', ''))
    with open(path, encoding='utf-8-sig') as file:
        names = file.read().splitlines()
    if not names:
        raise ValueError(f'the list {path} names no images. Set ann_file to one that does')
    for number, name in enumerate(names, 1):
        if not name.strip() or name != name.strip():
            raise ValueError(f'line {number} of {path} is {name!r}, but should be the name of an image, without .jpg')
    folder, images = (
        os.path.join(root, node.get(key, default))
        for key, default in (('ann_subdir', 'Annotations'), ('img_subdir', 'JPEGImages'))
    )
    remedy = '{{}}, for example {{examples}}. Put them there, or set {}'
    files = {f'{name}.xml': os.path.join(folder, f'{name}.xml') for name in names}
    check_files(
        files, f'annotation files that {path} names', remedy.format('ann_subdir').format(folder, examples='{examples}')
    )
    pictures = {f'{name}.jpg': os.path.join(images, f'{name}.jpg') for name in names}
    check_files(
        pictures, f'images that {path} names', remedy.format('img_subdir').format(images, examples='{examples}')
    )
    found = _Found()
    sizes = []
    for name, (picture, picture_path) in zip(names, pictures.items()):
        size = _check_file(files[f'{name}.xml'], use, found)
        sizes.append((picture, picture_path, size))
    yield from check_headers(sizes, folder, use.loading)
    yield from _report(use, found)


def _check_file(path: str, use: DatasetUse, found: _Found) -> tuple[int, int] | None:
    """Check the annotations of an image; return its width and height, None if they are absent or zero."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(
            f'the annotation file {path} is not XML ({error}). It may be cut short: fetch it again'
        ) from error
    try:
        size = _size(root)
        objects = [box for element in root.findall('object') if (box := _check_object(element, use, found, size))]
    except ValueError as error:
        raise ValueError(f'the annotation file {path} has a fault: {error}') from error
    found.images += 1
    smallest = use.filter_cfg.get('min_size', 0)
    if (use.filter_cfg.get('filter_empty_gt') and not objects) or (size is not None and min(size) < smallest):
        found.left_out += 1
        if size is not None and not all(size):
            raise ValueError(
                f'the annotation file {path} states that the image is {size[0]} x {size[1]} pixels, so that filter_cfg '
                'leaves it out: correct its size'
            )
    return size if size is not None and all(size) else None


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    size = root.find('size')
    if size is None:
        return None
    texts = {side: size.findtext(side) for side in ('width', 'height')}
    for side, text in texts.items():
        if text is None or not text.strip().isdigit():
            raise ValueError(f'the {side} in its size should be a whole number, but is {short(text)}')
    return int(size.findtext('width', '')), int(size.findtext('height', ''))


def _check_object(
    element: ElementTree.Element, use: DatasetUse, found: _Found, size: tuple[int, int] | None
) -> tuple[int, ...] | None:
    """Check an object; return its box as mmdet reads it, None if its class is not among the classes."""
    name = element.findtext('name')
    if name is None:
        raise ValueError('an object has no name')
    if name not in (use.classes or ()):
        found.other_classes[name] += 1
        return None
    difficult = element.findtext('difficult')
    if difficult is not None and not difficult.strip().isdigit():
        raise ValueError(f"'difficult' of the object {name!r} should be 0 or 1, but is {short(difficult)}")
    texts = [element.findtext(f'bndbox/{side}') for side in SIDES]
    try:
        sides = [float(text or 'nan') for text in texts]
    except ValueError:
        sides = [math.nan]
    if not all(map(math.isfinite, sides)):
        raise ValueError(
            f'the object {name!r} should have a bndbox of four numbers {", ".join(SIDES)}, but has {texts}'
        )
    box = tuple(int(side) for side in sides)
    box_width, box_height = box[2] - box[0], box[3] - box[1]
    smallest = use.filter_cfg.get('bbox_min_size')
    ignored = bool(difficult and int(difficult)) or (smallest is not None and min(box_width, box_height) < smallest)
    if ignored:
        found.ignored += 1
    elif max(sides) <= 1 and size is not None and min(size) > 1:
        raise ValueError(f'the box {sides} of the object {name!r} lies between 0 and 1, but should be in pixels')
    elif box_width <= 0 or box_height <= 0:
        raise ValueError(
            f'the box of the object {name!r} has no size: {", ".join(f"{side}={x}" for side, x in zip(SIDES, box))} '
            '(mmdet cuts off decimals). Its loss would not be finite: correct or remove it, or for training set '
            'filter_cfg=dict(bbox_min_size=1), which ignores such boxes'
        )
    else:
        found.objects += 1
    return box


def _report(use: DatasetUse, found: _Found) -> Iterator[str]:
    of = f'of the images that {use.annotations} names'
    if found.left_out == found.images:
        raise ValueError(f'filter_cfg leaves out all {found.images} images that {use.annotations} names: change it')
    if use.trains and not found.objects:
        raise ValueError(
            f'no object is left to train on in the images that {use.annotations} names: {found.ignored} are difficult '
            f'or below bbox_min_size, and {sum(found.other_classes.values())} are of other classes '
            f'({short(sorted(found.other_classes))}) than {short(list(use.classes or ()))}'
        )
    if found.left_out:
        yield f'{of}, filter_cfg leaves out {found.left_out} of {found.images}'
    if found.other_classes:
        number, names = sum(found.other_classes.values()), short(sorted(found.other_classes))
        yield f'{of}, mmdet leaves out {number} objects of the classes {names}'
