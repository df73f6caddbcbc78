"""Complete COCO annotations while reading them, if only one interpretation is possible."""

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
NO_OUTLINE = [[0.0, 0.0]]  # too few corners for a polygon: LoadAnnotations ignores the object instead of failing
NUMBERED = "annotations were numbered from 1, since evaluation needs whole numbers above 0 as their 'id'"
NOT_CROWD = "annotations have no 'iscrowd', which is set to 0"
MEASURED = "annotations have no 'area', which is computed from the mask or the box"
NAMESAKE = 'categories without objects share their name with another category and are left out'


class CompletedCOCO(COCO):
    """A reader of COCO files that completes annotations, and that also reads files with a byte-order mark.

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
    """Let mmdet's data sets and metrics for COCO files, and their subclasses, read with ``CompletedCOCO``.

    Evaluation needs fields that are optional in training: a file without them would end a run after its first epoch.
    A file that has all fields is read as before. The setting applies to the process; the worker processes of data
    loaders receive the annotations from it. Importing mmmutual does not call this function: the tools call it before a
    run.
    """
    set_coco_reader(CompletedCOCO)


def load_json(path: str | Path) -> Any:
    """Content of a JSON file in UTF-8, with or without a byte-order mark, in any locale."""
    collects = gc.isenabled()
    gc.disable()  # it would repeatedly visit the millions of objects of a large file
    try:
        with open(path, 'rb') as file:
            return json.load(file)
    finally:
        if collects:
            gc.enable()


def complete(content: MutableMapping) -> Counter[str]:
    """Complete the entries of a COCO file, in place.

    Whole numbers that are stored as floats become integers. An absent ``iscrowd`` becomes 0. An absent ``area`` becomes
    the area of the mask, or else of the box. If pycocotools cannot use an annotation id (it counts an object of id 0 as
    not matched, and cannot store texts in its arrays), all annotations are numbered from 1. If several categories have
    the same name and one has objects, those without objects are dropped. Polygons of fewer than three corners are
    dropped, as in training. If only some objects have an outline, the others receive one that training ignores.

    Args:
        content: May have ``images``, ``annotations`` and ``categories``.

    Returns:
        Number of completed entries, by kind of completion. Polygons and floats are not counted.
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
        # if no category of the name has objects, the first one is kept
        if names[name] == 1 or (category.get('id') in used if name in named else name not in seen):
            kept.append(category)
        seen.add(name)
    done[NAMESAKE] += len(categories) - len(kept)
    content['categories'] = kept


def _drop_bad_polygons(annotation: dict) -> None:
    """Keep the polygons that mmdet trains on: pycocotools reads two corners as a box, and fails at one corner."""
    outline = annotation.get('segmentation')
    if outline.__class__ is not list or not outline or all(map(is_polygon, outline)):
        return
    if outline[0].__class__ in (int, float) and is_polygon(outline):
        annotation['segmentation'] = [outline]  # one polygon that lacks the list around it
    elif all(polygon.__class__ is list for polygon in outline):
        annotation['segmentation'] = list(filter(is_polygon, outline)) or NO_OUTLINE


def _area(annotation: Mapping, size: tuple[int, int] | None) -> float:
    """Area in pixels: of the mask if there is a valid one, else of the box."""
    if size is not None and has_outline(annotation):
        with suppress(ValueError):
            check_outline(annotation['segmentation'], list(size))
            return area_of(annotation['segmentation'], size)
    return float(annotation['bbox'][2] * annotation['bbox'][3])
