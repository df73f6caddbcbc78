"""Is the data there? Asked before a model is built, so that a missing file costs no time."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mmdet.registry import DATASETS
from PIL import Image

from .coco_check import check_coco

MAX_NAMED = 3
MAX_OPENED = 200  # images whose size is looked at, evenly spread: a folder that was resized is found, and soon


def check_data(config: Mapping, splits: tuple[str, ...] = ('train', 'val', 'test')) -> None:
    """Check the annotation files of a config's data loaders and, for a ``CocoDataset``, the images they name.

    What mmdet leaves out of the latter is counted on the standard error output. Of an ``ImageNet`` without annotation
    file, the folder has to be there. Data sets that are not on the local disk are left out.

    Args:
        config: An MMDetection config with ``train_dataloader`` and so on. Its ``data_help``, a text, is added to the
            messages.
        splits: Which data loaders to check.

    Raises:
        FileNotFoundError: If an annotation file, an image or a folder is missing.
        ValueError: If an annotation file is not JSON, has no images or a wrong entry, or does not have the classes, or
            if images have another size than it says; of many images, some are looked at.
    """
    seen: set[tuple] = set()
    help_text = f'\n{config.get("data_help", "").strip()}'.rstrip()
    for split in splits:
        loader = f'{split}_dataloader'
        for folder in map(_folder, _nodes(config.get(loader))):
            if folder is not None and not os.path.isdir(folder):
                raise FileNotFoundError(
                    f'{loader}: there is no folder {folder}. Put the images there, or set data_root.{help_text}'
                )
        for dataset in _datasets(config.get(loader)):
            paths = _paths(dataset)
            if paths is not None and paths not in seen:
                seen.add(paths)
                is_coco = re.search(r'\bCocoDataset\b', str(dataset.get('type')))
                classes = _classes(dataset) if is_coco else None
                _check_annotations(*paths, loader, help_text, classes)


def annotation_files(config: Mapping, split: str) -> list[str]:
    """Paths of the annotation files that a data loader reads, as far as they should be on the local disk.

    Args:
        config: An MMDetection config.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        Each path once, in the config's order.
    """
    paths = [_paths(dataset) for dataset in _datasets(config.get(f'{split}_dataloader'))]
    return list(dict.fromkeys(path[0] for path in paths if path is not None))


def _datasets(node) -> Iterator[Mapping]:
    """All data set configs with an annotation file, also those inside wrappers."""
    return (dataset for dataset in _nodes(node) if dataset.get('ann_file'))


def _nodes(node) -> Iterator[Mapping]:
    """All configs in a nested one but for pipelines."""
    if isinstance(node, Mapping):
        yield node
        for key, value in node.items():
            if key != 'pipeline':
                yield from _nodes(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _nodes(value)


def _folder(dataset: Mapping) -> str | None:
    """Image folder of an ``ImageNet`` of a split; None for anything else, or if it is not on the local disk."""
    is_imagenet = re.search(r'\bImageNet\b', str(dataset.get('type')))
    if not is_imagenet or not dataset.get('split') or dataset.get('ann_file') or dataset.get('data_prefix'):
        return None
    root = dataset.get('data_root') or ''
    return None if '://' in root else os.path.join(root, dataset['split'])


def _paths(dataset: Mapping) -> tuple[str, str] | None:
    """Annotation file and image folder; None if they are not on the local disk."""
    root = dataset.get('data_root') or ''
    paths = dataset['ann_file'], (dataset.get('data_prefix') or {}).get('img', '')
    if dataset.get('backend_args') or any('://' in path for path in (root, *paths)):
        return None
    annotations, images = (os.path.join(root, path) for path in paths)
    return annotations, images


def _classes(dataset: Mapping) -> Sequence[str]:
    """The classes of a ``CocoDataset``, its own or those of its config."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is not None:
        return (classes,) if isinstance(classes, str) else classes
    kind = dataset['type']
    return (DATASETS.get(kind) if isinstance(kind, str) else kind).METAINFO['classes']


def _check_annotations(path: str, images: str, loader: str, help_text: str, classes: Sequence[str] | None) -> None:
    """Check a file; its entries and images only if the classes are known, those of a ``CocoDataset``."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'{loader}: there is no annotation file {path}. Put it there, or set data_root and ann_file.{help_text}'
        )
    if classes is None:
        return
    try:
        with open(path, 'rb') as file:
            content = json.load(file)
            names = [os.fspath(image['file_name']) for image in content['images']]
    except ValueError as error:
        raise ValueError(
            f'{loader}: the annotation file {path} is not JSON ({error}). It may be cut short: fetch it '
            f'again.{help_text}'
        ) from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{loader}: the annotation file {path} is not in COCO format: it needs a list 'images', each with a "
            f"'file_name'. Set ann_file to one that is.{help_text}"
        ) from error
    if not names:
        raise ValueError(
            f'{loader}: the annotation file {path} names no images. Set ann_file to one that does.{help_text}'
        )
    try:
        left_out = check_coco(content, classes, for_training=loader.startswith('train'))
    except ValueError as error:
        raise ValueError(f'{loader}: the annotation file {path} has a fault: {error}.{help_text}') from error
    for reason, count in left_out.items():
        print(f'{loader}: of {path}, mmdet leaves out {count} annotations {reason}', file=sys.stderr)
    sizes = _sizes(names, images)
    absent = [name for name, size in sizes.items() if size is None]
    if absent:
        raise FileNotFoundError(
            f'{loader}: {len(absent)} of the {len(names)} images that {path} names are not in {images or "."}, for '
            f'example {", ".join(absent[:MAX_NAMED])}. Put them there, or set data_prefix.{help_text}'
        )
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        raise ValueError(
            f'{loader}: {len(empty)} of the {len(names)} images that {path} names are empty files, for example '
            f'{", ".join(empty[:MAX_NAMED])}. Fetch them again.{help_text}'
        )
    step = -(-len(names) // MAX_OPENED)
    looked_at = content['images'][::step]
    resized = [text for image in looked_at if (text := _wrong_size(image, images))]
    if resized:
        raise ValueError(
            f'{loader}: {len(resized)} of {len(looked_at)} images looked at have another size than {path} says, so its '
            f'boxes would be in wrong places, for example {", ".join(resized[:MAX_NAMED])}. Take the images that '
            f'belong to the file, or scale its annotations.{help_text}'
        )


def _wrong_size(image: Mapping, root: str) -> str | None:
    """What is wrong with the size of an image, if its header can be read; photos may be stored turned by 90 degrees."""
    try:
        with Image.open(os.path.join(root, image['file_name'])) as file:
            found = file.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None  # named when it is loaded
    expected = image['width'], image['height']
    if sorted(found) == sorted(expected):
        return None
    return f'{image["file_name"]} (is {found[0]} x {found[1]}, not {expected[0]} x {expected[1]})'


def _sizes(names: Iterable[str], root: str) -> dict[str, int | None]:
    """Bytes of each file below ``root``, None if it is not there; each folder is listed once, which is faster."""
    listings: dict[str, dict[str, os.DirEntry]] = {}
    sizes: dict[str, int | None] = {}
    for name in names:
        folder, file = os.path.split(os.path.join(root, name))
        if folder not in listings:
            there = os.scandir(folder or '.') if os.path.isdir(folder or '.') else ()
            listings[folder] = {entry.name: entry for entry in there}
        entry = listings[folder].get(file)
        sizes[name] = None if entry is None else entry.stat().st_size
    return sizes
