"""Write a data set in COCO layout: annotations/instances_{train,val}.json, and the images in train/ and val/."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

PARTS = ('train', 'val')


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Args:
        name: Name of its folder.
        url: Address of the original.
        licence: Licence of the original.
        classes: Names of the categories 1, 2, and so on.
    """

    name: str
    url: str
    licence: str
    classes: tuple[str, ...]

    def wrong_layout(self, source: Path, expected: str) -> ValueError:
        """The error for a folder that is not the original."""
        problem = f'does not have {expected}' if source.is_dir() else 'is not a folder'
        return ValueError(f'{source} {problem}: download the original with `git clone {self.url}`')


@dataclass(frozen=True)
class Picture:
    """An image with its objects.

    Args:
        id: Its id, at least 1.
        part: ``'train'`` or ``'val'``.
        file_name: Its name in the folder of the part.
        content: The bytes of the file.
        height: In pixels.
        width: In pixels.
        objects: Annotations with at least ``category_id``, ``bbox`` (x, y, width, height) and ``area``.
    """

    id: int
    part: str
    file_name: str
    content: bytes
    height: int
    width: int
    objects: list[dict]


def write(data_set: DataSet, pictures: Iterable[Picture], folder: Path) -> dict[str, tuple[int, int]]:
    """Write a data set, which appears in the folder only when it is finished.

    Args:
        data_set: The data set.
        pictures: Its images. The ids of their objects count from 1 in this order.
        folder: Folder of the data sets; the images and annotations go to a folder with the name of the data set.

    Returns:
        The numbers of images and of objects of each part.

    Raises:
        ValueError: If the folder already has the data set.
    """
    root = folder / data_set.name
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ValueError(f'{root} already has data: remove it, or choose another FOLDER')
    folder.mkdir(parents=True, exist_ok=True)
    categories = [dict(id=id_, name=name, supercategory='cell') for id_, name in enumerate(data_set.classes, 1)]
    info = dict(description=f'{data_set.name}, {data_set.licence}', url=data_set.url)
    contents = {part: dict(info=info, images=[], annotations=[], categories=categories) for part in PARTS}
    ids = count(1)
    # In the same folder, hence on the same file system, where a rename is atomic.
    with tempfile.TemporaryDirectory(prefix=f'.{root.name}.', dir=folder) as scratch:
        unfinished = Path(scratch) / 'set'
        for name in ('annotations', *PARTS):
            (unfinished / name).mkdir(parents=True)
        for picture in pictures:
            (unfinished / picture.part / picture.file_name).write_bytes(picture.content)
            contents[picture.part]['images'].append(
                dict(id=picture.id, file_name=picture.file_name, width=picture.width, height=picture.height)
            )
            contents[picture.part]['annotations'] += [
                dict(id=next(ids), image_id=picture.id, **each, iscrowd=0) for each in picture.objects
            ]
        for part, content in contents.items():
            (unfinished / f'annotations/instances_{part}.json').write_text(json.dumps(content))
        os.replace(unfinished, root)
    return {part: (len(content['images']), len(content['annotations'])) for part, content in contents.items()}


def convert(data_set: DataSet, read: Callable[[Path], Iterable[Picture]], arguments: list[str] | None = None) -> None:
    """Convert a data set from the command line.

    Args:
        data_set: The data set.
        read: Function that reads the images from the folder of the original.
        arguments: The arguments, by default those of the process.

    Raises:
        SystemExit: With one sentence, if the original or the output folder is wrong.
    """
    parser = argparse.ArgumentParser(description=f'Convert {data_set.url} ({data_set.licence}) to COCO layout')
    parser.add_argument('source', type=Path, help=f'clone of {data_set.url}')
    parser.add_argument('folder', type=Path, metavar='FOLDER', help=f'the result is FOLDER/{data_set.name}')
    args = parser.parse_args(arguments)
    try:
        counts = write(data_set, read(args.source), args.folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    for part, (images, objects) in counts.items():
        print(f'{args.folder / data_set.name / part}: {images} images, {objects} objects')
    command = f'python benchmarks/photographs.py --data {shlex.quote(str(args.folder))}'
    print(f'When you have both data sets, run: {command}')
