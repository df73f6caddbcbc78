"""Convert the data set BCCD to COCO layout: python benchmarks/converters/bccd.py BCCD_Dataset FOLDER."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import cv2
from tqdm import tqdm

from coco_layout import DataSet, Picture, convert

BCCD = DataSet('bccd', 'https://github.com/Shenggan/BCCD_Dataset', 'MIT', ('RBC', 'WBC', 'Platelets'))
LISTS = dict(train='ImageSets/Main/trainval.txt', val='ImageSets/Main/test.txt')
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def read(source: Path) -> Iterator[Picture]:
    """Read the images and boxes: first those for training, then those for validation.

    Args:
        source: A clone of the original. Its files are in the folder ``BCCD``; in old versions there is no such folder.

    Yields:
        Each image with its boxes. The id of an image is its place among the sorted images, from 1.

    Raises:
        ValueError: If the folder has another layout, if a file is missing or unreadable, or if a class is unknown.
    """
    root = source / 'BCCD' if (source / 'BCCD').is_dir() else source
    expected = ('JPEGImages', 'Annotations', *LISTS.values())
    if lacking := [name for name in expected if not (root / name).exists()]:
        raise BCCD.wrong_layout(source, f'{lacking[0]}, in it or in its folder BCCD')
    ids = {path.stem: id_ for id_, path in enumerate(sorted((root / 'JPEGImages').glob('*.jpg')), 1)}
    listed = [(part, name) for part, file in LISTS.items() for name in (root / file).read_text().split()]
    for part, name in tqdm(listed, BCCD.name):
        image, annotations = root / f'JPEGImages/{name}.jpg', root / f'Annotations/{name}.xml'
        for path in (image, annotations):
            if not path.is_file():
                raise ValueError(f'{path} is missing, but {root / LISTS[part]} names it: restore it with git')
        pixels = cv2.imread(str(image))
        if pixels is None:
            raise ValueError(f'{image} is not a readable image: restore it with git')
        height, width = pixels.shape[:2]
        boxes = read_boxes(annotations, height, width)
        yield Picture(ids[name], part, image.name, image.read_bytes(), height, width, boxes)


def read_boxes(path: Path, height: int, width: int) -> list[dict]:
    """Read the boxes of an image of this size in pixels.

    The corners of Pascal VOC count from 1, and the box includes the pixels of the lower right corner.

    Args:
        path: The XML file.
        height: Height of the image.
        width: Width of the image.

    Returns:
        Annotations with boxes (x, y, width, height), clipped to the image, in the order of the file.

    Raises:
        ValueError: If the file is not a readable annotation, or if a class is unknown.
    """
    try:
        objects = [
            (each.findtext('name', ''), [int(each.findtext(f'bndbox/{corner}', '')) for corner in CORNERS])
            for each in ElementTree.parse(path).findall('object')
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'{path} is not a readable annotation ({error}): restore it with git') from error
    annotations = []
    for name, (xmin, ymin, xmax, ymax) in objects:
        if name not in BCCD.classes:
            known = ', '.join(BCCD.classes)
            raise ValueError(f'{path} has the unknown class {name!r}, known are {known}: restore it with git')
        left, top = max(xmin - 1, 0), max(ymin - 1, 0)
        box_width, box_height = min(xmax, width) - left, min(ymax, height) - top
        if min(box_width, box_height) > 1:  # BloodImage_00338 and BloodImage_00343 have a box of one pixel
            box = [left, top, box_width, box_height]
            annotations.append(dict(category_id=BCCD.classes.index(name) + 1, bbox=box, area=box_width * box_height))
    return annotations


if __name__ == '__main__':
    convert(BCCD, read)
