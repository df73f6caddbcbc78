"""Check that the data exists and makes sense before building a model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping

from .coco_data import CocoFiles, check_coco_data
from .dataset_config import DatasetUse, dataset_nodes, dataset_uses
from .evaluator_files import check_evaluators
from .voc_data import check_voc_data, reads_voc


def check_data(config: Mapping, splits: tuple[str, ...] = ('train', 'val', 'test')) -> None:
    """Check the data that the loaders and evaluators of a config read, as far as its pipelines load it.

    The annotation files have to exist. For a ``CocoDataset`` or an ``XMLDataset``, and for subclasses that read their
    files in the same way, the entries, the images and the filter are checked. For COCO metrics, the annotation files
    are checked. The numbers of ignored or dropped annotations are written to the standard error output. For an
    ``ImageNet`` without an annotation file, the folder has to exist. Data sets that are not on the local disk are not
    checked.

    Args:
        config: An MMDetection config with ``train_dataloader`` and so on. Its ``data_help``, a text, is added to the
            messages.
        splits: Which data loaders and evaluators to check.

    Raises:
        FileNotFoundError: If an annotation file, an image or a folder is missing.
        ValueError: If an annotation file is damaged, has a wrong entry, lacks a class, or has nothing to train on or to
            evaluate; if images do not match it; or if an evaluator reads another set than its loader.
    """
    help_text = f'\n{config.get("data_help", "").strip()}'.rstrip()
    said: set[str] = set()
    try:
        for line in _check(config, splits):
            _, _, what = line.partition(': ')
            if what not in said:  # loaders may share a file
                said.add(what)
                print(line, file=sys.stderr)
    except (ValueError, FileNotFoundError) as error:
        raise _same_kind(error, f'{error}.{help_text}') from error


def annotation_files(config: Mapping, split: str) -> list[str]:
    """Paths of the annotation files that a data loader reads from the local disk.

    Args:
        config: An MMDetection config.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        Each path once, in the config's order.
    """
    return list(dict.fromkeys(use.annotations for use in dataset_uses(config, split) if use.is_local))


def _check(config: Mapping, splits: tuple[str, ...]) -> Iterator[str]:
    """Raise at the first fault; yield notes, each with the name of the loader or evaluator."""
    files, seen = CocoFiles(), []
    for split in splits:
        loader = f'{split}_dataloader'
        for folder in map(_folder, dataset_nodes(config, split)):
            if folder is not None and not os.path.isdir(folder):
                raise FileNotFoundError(
                    f'{loader}: there is no folder {folder}. Put the images there, or set data_root'
                )
        uses = list(dataset_uses(config, split))
        for use in uses:
            key = use.node, use.trains
            if use.is_local and key not in seen:
                seen.append(key)
                yield from _prefixed(loader, _check_use(use, files))
        if split != 'train':
            yield from _prefixed(loader, check_evaluators(config, split, uses, files), name_errors=False)


def _prefixed(name: str, notes: Iterator[str], name_errors: bool = True) -> Iterator[str]:
    try:
        for note in notes:
            yield f'{name}: {note}'
    except (ValueError, FileNotFoundError) as error:
        if not name_errors:
            raise
        raise _same_kind(error, f'{name}: {error}') from error


def _same_kind(error: Exception, message: str) -> Exception:
    return (FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError)(message)


def _check_use(use: DatasetUse, files: CocoFiles) -> Iterator[str]:
    path = use.annotations
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is no annotation file {path}. Put it there, or set data_root and ann_file')
    if (use.reads_coco or use.has_coco_entries) and use.classes is not None:
        yield from check_coco_data(use, files)
    elif use.has_coco_entries:
        files.read(path)
    elif reads_voc(use):
        yield from check_voc_data(use)


def _folder(dataset: Mapping) -> str | None:
    """Image folder of an ``ImageNet`` with a split; None for other data sets, and for one not on the local disk."""
    is_imagenet = re.search(r'\bImageNet\b', str(dataset.get('type')))
    if not is_imagenet or not dataset.get('split') or dataset.get('ann_file') or dataset.get('data_prefix'):
        return None
    root = dataset.get('data_root') or ''
    return None if '://' in root else os.path.join(root, dataset['split'])
