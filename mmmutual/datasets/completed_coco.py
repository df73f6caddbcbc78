"""COCO annotations that are completed as they are read, where only one reading is possible."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmdet.datasets.api_wrappers import COCO

from mmmutual.upstream import set_coco_reader

from .outlines import area_of, check_outline, has_outline, is_polygon

WHOLE_NUMBERS = dict(
    images=('id', 'width', 'height'), categories=('id',), annotations=('id', 'image_id', 'category_id')
)
NO_OUTLINE = [[0.0, 0.0]]  # too few corners for a polygon: LoadAnnotations ignores the object, whose mask it would miss
NUMBERED = "annotations were numbered from 1, since evaluation needs whole numbers above 0 as their 'id'"
NOT_CROWD = "annotations have no 'iscrowd', which is taken as 0"
MEASURED = "annotations have no 'area', which is that of the mask or the box"
NAMESAKE = 'categories without objects share their name with another category and are left out'


class CompletedCOCO(COCO):
    """mmdet's reader of COCO files, which also reads files with a byte-order mark, and completes their annotations.

    Args:
        annotation_file: Path of the JSON file.
    """

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = load_json(annotation_file)
            complete(self.dataset)
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


def read_completed() -> None:
    """Let mmdet's data sets and metrics of COCO files, and their subclasses, read with ``CompletedCOCO``.

    Evaluation needs fields that training takes as optional, so that such a file would end a run after its first epoch.
    A file without gaps is read as before. It holds for the process; worker processes of data loaders receive what this
    one has read. Importing mmmutual does not call it: the tools do, before a run.
    """
    set_coco_reader(CompletedCOCO)


def load_json(path: str | Path) -> Any:
    """Content of a JSON file in UTF-8, with or without a byte-order mark, whatever the locale."""
    collects = gc.isenabled()
    gc.disable()  # it would look through the millions of objects of a large file again and again
    try:
        with open(path, 'rb') as file:
            return json.load(file)
    finally:
        if collects:
            gc.enable()


def complete(content: MutableMapping) -> Counter[str]:
    """Complete the entries of a COCO file, in place.

    Whole numbers that were written as floats become whole. An absent ``iscrowd`` is 0, and an absent ``area`` that of
    the mask, or of the box. If pycocotools cannot use an annotation id (an object of id 0 counts as not matched, and
    texts do not fit into its arrays), all annotations are numbered from 1. Of categories of one name, those without
    objects are dropped if one has objects. Polygons of fewer than three corners are dropped, as in training; where only
    some objects have an outline, the others get one that training ignores.

    Args:
        content: ``images``, ``annotations`` and ``categories``, as far as they are there.

    Returns:
        How many entries were completed, by what was done. Polygons and floats are not counted.
    """
    done: Counter[str] = Counter()
    for name, fields in WHOLE_NUMBERS.items():
        for field in fields:
            _make_whole(content.get(name) or (), field)
    annotations = content.get('annotations') or []
    _drop_namesakes(content, annotations, done)
    if not all(type(annotation.get('id')) is int and annotation['id'] > 0 for annotation in annotations):
        for number, annotation in enumerate(annotations, 1):
            annotation['id'] = number
        done[NUMBERED] = len(annotations)
    sizes = {image['id']: (image.get('height'), image.get('width')) for image in content.get('images') or ()}
    for annotation in annotations:
        _drop_bad_polygons(annotation)
        if annotation.get('iscrowd') is None:
            annotation['iscrowd'] = 0
            done[NOT_CROWD] += 1
        elif annotation['iscrowd'].__class__ is float:
            annotation['iscrowd'] = int(annotation['iscrowd'])
        if annotation.get('area') is None and annotation.get('bbox') is not None:
            annotation['area'] = _area(annotation, sizes.get(annotation.get('image_id')))
            done[MEASURED] += 1
    bare = [annotation for annotation in annotations if not annotation.get('segmentation')]
    if len(bare) < len(annotations):
        for annotation in bare:
            annotation['segmentation'] = NO_OUTLINE
    return done


def _make_whole(entries: Sequence[dict], field: str) -> None:
    for entry in entries:
        value = entry.get(field)
        if value.__class__ is float and value.is_integer():
            entry[field] = int(value)


def _drop_namesakes(content: MutableMapping, annotations: Sequence[Mapping], done: Counter[str]) -> None:
    categories = content.get('categories') or []
    names = Counter(category.get('name') for category in categories)
    if len(names) == len(categories):
        return
    used = {annotation.get('category_id') for annotation in annotations}
    named = {category.get('name') for category in categories if category.get('id') in used}
    kept, seen = [], set()
    for category in categories:
        name = category.get('name')
        # without objects of that name the first category stands for all
        if names[name] == 1 or (category.get('id') in used if name in named else name not in seen):
            kept.append(category)
        seen.add(name)
    done[NAMESAKE] += len(categories) - len(kept)
    content['categories'] = kept


def _drop_bad_polygons(annotation: dict) -> None:
    """Keep what mmdet trains on; pycocotools would read a polygon of two corners as a box, and fail at one."""
    outline = annotation.get('segmentation')
    if outline.__class__ is not list or not outline or all(map(is_polygon, outline)):
        return
    if outline[0].__class__ in (int, float) and is_polygon(outline):
        annotation['segmentation'] = [outline]  # one polygon that is not in a list of its own
    elif all(polygon.__class__ is list for polygon in outline):
        annotation['segmentation'] = list(filter(is_polygon, outline)) or NO_OUTLINE


def _area(annotation: Mapping, size: tuple[int, int] | None) -> float:
    """Area in pixels of the mask if there is a good one, of the box otherwise."""
    if size is not None and has_outline(annotation):
        with suppress(ValueError):
            check_outline(annotation['segmentation'], list(size))
            return area_of(annotation['segmentation'], size)
    return float(annotation['bbox'][2] * annotation['bbox'][3])
