"""Check a ``CocoDataset`` of a config, with its pipeline and its filter."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

from mmdet.datasets import CocoDataset

from .coco_entries import CocoEntries, check_classes, read_entries
from .coco_objects import check_boxes, check_outlines, left_out
from .completed_coco import load_json
from .dataset_config import DatasetUse
from .image_files import check_files, check_headers
from .outlines import short

MANY_CROWDS = 0.1  # of the annotations; COCO has 1 %, but a labelling tool may export all masks as crowd regions


class CocoFiles:
    """Reader of annotation files, which keeps the last file: loaders and evaluators often share it."""

    def __init__(self) -> None:
        self._last: tuple[str, CocoEntries] | None = None

    def read(self, path: str) -> CocoEntries:
        """The checked entries of a file.

        Args:
            path: Its path.

        Returns:
            The entries.

        Raises:
            ValueError: If it is not JSON, or not in COCO format, or has a fault.
        """
        if self._last is None or self._last[0] != os.path.realpath(path):
            self._last = None  # free its memory before the next file is read
            self._last = os.path.realpath(path), _read(path)
        return self._last[1]


def check_coco_data(use: DatasetUse, files: CocoFiles) -> Iterator[str]:
    """Check a data set.

    Args:
        use: A ``CocoDataset``, or a subclass whose file has the same entries. If it reads the file as ``CocoDataset``
            does, the order of its classes is compared with the file.
        files: Reader of annotation files.

    Yields:
        A note for the user, one sentence each.

    Raises:
        FileNotFoundError: If an image is missing.
        ValueError: If the annotation file has a fault, if nothing is left to train on, or if images do not match it.
    """
    path = use.annotations
    entries = files.read(path)
    if use.trains and use.loads_objects and entries.annotations is None:
        raise ValueError(f"the annotation file {path} has a fault: it has no list 'annotations'")
    try:
        yield from _check_objects(use, entries)
    except ValueError as error:
        raise ValueError(f'the annotation file {path} has a fault: {error}') from error
    if use.is_stock(CocoDataset, 'filter_data'):
        yield from _check_filter(use, entries)
    if use.is_stock(CocoDataset, 'load_data_list', 'parse_data_info'):  # other classes may read other folders
        if not isinstance((use.node.get('data_prefix') or {}).get('img'), str):
            raise ValueError(
                f'data_prefix is {use.node.get("data_prefix")}, but has to be dict(img=FOLDER), where FOLDER holds the '
                "images and may be ''"
            )
        yield from _check_images(use, entries)


def _read(path: str) -> CocoEntries:
    try:
        content = load_json(path)
        names = [os.fspath(image['file_name']) for image in content['images']]
    except ValueError as error:
        raise ValueError(
            f'the annotation file {path} is not JSON ({error}). It may be cut short or in another encoding than UTF-8: '
            'fetch or export it again'
        ) from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the annotation file {path} is not in COCO format: it needs a list 'images', each with a "
            f"'file_name'. Set ann_file to one that is"
        ) from error
    if not names:
        raise ValueError(f'the annotation file {path} names no images. Set ann_file to one that does')
    try:
        return read_entries(content)
    except ValueError as error:
        raise ValueError(f'the annotation file {path} has a fault: {error}') from error


def _check_objects(use: DatasetUse, entries: CocoEntries) -> Iterator[str]:
    of = f'of {use.annotations}'
    for what, number in entries.completed.items():
        yield f'{of}, {number} {what}'
    names = [category['name'] for category in entries.categories.values()]
    check_classes(names, use.classes or (), ordered=use.reads_coco)  # other classes may sort them
    if entries.annotations is None:
        return
    beyond = check_boxes(entries)
    kept, reasons = left_out(entries, use.classes or ())
    for reason, number in reasons.items():
        yield f'{of}, mmdet leaves out {number} annotations {reason}'
    if beyond:
        yield f'{of}, {beyond} boxes reach beyond their image'
    if use.loads_masks:
        for reason, number in check_outlines(entries, kept, use.polygons_only).items():
            yield f'{of}, mmdet ignores {number} annotations {reason}'
    if use.trains and use.loads_objects:
        objects = [annotation for annotation in kept if not annotation['iscrowd']]
        if (crowds := len(kept) - len(objects)) > MANY_CROWDS * len(kept):
            yield f"{of}, {crowds} of {len(kept)} annotations are crowd regions ('iscrowd' is 1), which are ignored"
        if not objects and (use.transforms or entries.annotations):
            raise ValueError(_nothing_left(entries, len(kept), reasons))
        found = {entries.categories[annotation['category_id']]['name'] for annotation in objects}
        empty = [name for name in use.classes or () if name not in found]
        if empty and objects:
            yield f'{of}, no object is of the {len(empty)} classes {short(empty)}, which cannot be learned'


def _nothing_left(entries: CocoEntries, crowds: int, reasons: Counter[str]) -> str:
    parts = [f'mmdet leaves out {number} {reason}' for reason, number in reasons.items()]
    if crowds:
        parts.append(f"{crowds} are crowd regions ('iscrowd' is 1), which are ignored")
    details = f' ({", ".join(parts)})' if parts else ''
    number = len(entries.annotations or ())
    return f'no object is left to train on of its {number} annotations{details}. Correct these fields'


def left_by_filter(filter_cfg: Mapping, entries: CocoEntries, classes: tuple[str, ...]) -> tuple[list, Counter[str]]:
    """Apply the filter of ``CocoDataset``.

    Args:
        filter_cfg: Its config; an empty one keeps all images.
        entries: A checked file.
        classes: Names of the classes.

    Returns:
        The ids of the images that it keeps, and the number of the other images by reason.
    """
    wanted = {identity for identity, category in entries.categories.items() if category['name'] in classes}
    owners = {one['image_id'] for one in entries.annotations or () if one['category_id'] in wanted}
    kept: list = []
    reasons: Counter[str] = Counter()
    smallest = filter_cfg.get('min_size', 0)
    for identity, image in entries.images.items():
        if filter_cfg.get('filter_empty_gt') and identity not in owners:
            reasons['without annotations of the classes (filter_empty_gt)'] += 1
        elif min(image['width'], image['height']) < smallest:
            reasons[f'with a side below min_size={smallest} pixels'] += 1
        else:
            kept.append(identity)
    return kept, reasons


def _check_filter(use: DatasetUse, entries: CocoEntries) -> Iterator[str]:
    kept, reasons = left_by_filter(use.filter_cfg, entries, use.classes or ())
    if not reasons:
        return
    details = ', '.join(f'{number} {reason}' for reason, number in reasons.items())
    if not kept:
        raise ValueError(
            f'filter_cfg leaves out all {len(entries.images)} images of {use.annotations}: {details}. Change '
            'filter_cfg of the data set, or the file'
        )
    yield f'of the {len(entries.images)} images of {use.annotations}, filter_cfg leaves out {details}'


def _check_images(use: DatasetUse, entries: CocoEntries) -> Iterator[str]:
    path, root = use.annotations, use.images
    named = {image['file_name']: os.path.join(root, image['file_name']) for image in entries.images.values()}
    remedy = f'{root or "."}, for example {{examples}}. Put them there, or set data_prefix'
    if os.sep == '/' and any('\\' in name for name in named):
        remedy += ", and write / instead of \\ in each 'file_name', which Windows wrote"
    check_files(named, f'images that {path} names', remedy)
    sizes = [
        (name := image['file_name'], named[name], (image['width'], image['height']))
        for image in entries.images.values()
    ]
    yield from check_headers(sizes, path, use.loading)
