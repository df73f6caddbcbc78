"""The annotation files that evaluators read, compared with those of their data loader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils

from .coco_data import CocoFiles, left_by_filter
from .coco_entries import CocoEntries, check_classes
from .coco_objects import (
    IGNORED,
    NO_AREA,
    OUTSIDE,
    TOO_SMALL,
    check_outlines,
    left_out,
    without_outline,
)
from .dataset_config import DatasetUse
from .outlines import short

SEVERAL = 'Give each data set its evaluator with MultiDatasetsEvaluator, or the evaluator one file of all images'
SAME = 0.5  # intersection over union from which boxes count as the same object, and the required share of such objects


def check_evaluators(config: Mapping, split: str, uses: Sequence[DatasetUse], files: CocoFiles) -> Iterator[str]:
    """Check the COCO metrics of a split.

    Args:
        config: An MMDetection config.
        split: ``'val'`` or ``'test'``.
        uses: The data sets in the loader of the split.
        files: Reader of annotation files.

    Yields:
        A note for the user, one sentence each.

    Raises:
        FileNotFoundError: If the annotation file of an evaluator is missing.
        ValueError: If it has a fault, or has other images or objects than the loader, or nothing to evaluate.
    """
    for name, metric, theirs in coco_metrics(config, split, uses):
        try:
            yield from _check_metric(metric, theirs, files)
        except (ValueError, FileNotFoundError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f'{name}: {error}') from error


def coco_metrics(
    config: Mapping, split: str, uses: Sequence[DatasetUse]
) -> Iterator[tuple[str, Mapping, Sequence[DatasetUse]]]:
    """The COCO metrics of a split.

    Args:
        config: An MMDetection config.
        split: ``'val'`` or ``'test'``; there are none for ``'train'``.
        uses: The data sets in the loader of the split.

    Yields:
        Name of the evaluator, config of the metric, and the data sets that it evaluates. In a
        ``MultiDatasetsEvaluator`` each metric evaluates one data set.
    """
    name = f'{split}_evaluator'
    evaluator = config.get(name)
    metrics = evaluator.get('metrics', evaluator) if isinstance(evaluator, Mapping) else evaluator
    metrics = [metrics] if isinstance(metrics, Mapping) else list(metrics or ())
    one_each = isinstance(evaluator, Mapping) and 'dataset_prefixes' in evaluator and len(uses) == len(metrics)
    for index, metric in enumerate(metrics):
        if isinstance(metric, Mapping) and _metric_class(metric):
            yield name, metric, uses[index : index + 1] if one_each else uses


def _metric_class(metric: Mapping) -> Any:
    """The class of a metric that reads COCO files as ``CocoMetric`` does, None for another."""
    kind = metric.get('type')
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    is_coco = isinstance(kind, type) and issubclass(kind, CocoMetric) and kind.__name__ != 'LVISMetric'
    return kind if is_coco else None


def _check_metric(metric: Mapping, uses: Sequence[DatasetUse], files: CocoFiles) -> Iterator[str]:
    path = metric.get('ann_file')
    if not path:
        if _metric_class(metric).process is CocoMetric.process:
            _check_ground_truth(uses)
        return
    if metric.get('backend_args') or '://' in path:
        return
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'there is no annotation file {path}. Put it there, or set ann_file of the evaluator, which is not looked '
            'up in data_root'
        )
    if not uses or not all(use.reads_coco and use.is_local and use.classes for use in uses):
        return
    loaded = _loaded(uses, path, files)
    entries = files.read(path)
    check_classes([category['name'] for category in entries.categories.values()], uses[0].classes or ())
    if loaded is not None:
        _compare_images(path, entries, loaded, uses)
    if metric.get('format_only'):
        return
    if loaded is not None:
        yield from _compare_objects(path, entries, loaded, uses)
    yield from _check_objects(metric, path, entries, uses[0].classes or ())
    unseen = [use for use in uses if use.node.get('indices') is not None]
    if unseen:
        yield (
            f'it loads a part of its images (indices), but the evaluator reads all of {path}: objects '
            'in the other images count as missed'
        )


def _check_ground_truth(uses: Sequence[DatasetUse]) -> None:
    """Check the ground truth of a COCO metric without a file: the ``instances`` among the meta data of each image."""
    for use in uses:
        packing = [node for node in use.transforms if str(node.get('type')).endswith('PackDetInputs')]
        if packing and not any('instances' in node.get('meta_keys', ()) for node in packing):
            raise ValueError(
                f'it has no ann_file, so that it needs the objects of the pipeline of {use.loader}: set ann_file, or '
                "add 'instances' to the meta_keys of PackDetInputs"
            )


def _loaded(uses: Sequence[DatasetUse], path: str, files: CocoFiles) -> dict | None:
    """The loaded images with their annotations, by image id; None if the loader loads all of the evaluator's file."""
    if len(uses) == 1 and os.path.realpath(uses[0].annotations) == os.path.realpath(path) and not uses[0].filter_cfg:
        return None
    loaded: dict = {}
    for use in uses:
        entries = files.read(use.annotations)
        objects = _by_image(entries)
        for identity in left_by_filter(use.filter_cfg, entries, use.classes or ())[0]:
            if identity in loaded:
                raise ValueError(
                    f'two data sets of {use.loader} have an image with id {identity!r} '
                    f'({loaded[identity][0]["file_name"]}, and {entries.images[identity]["file_name"]} of '
                    f'{use.annotations}), and the detections in both would count as those of one image. {SEVERAL}'
                )
            loaded[identity] = entries.images[identity], objects.get(identity, [])
    return loaded


def _by_image(entries: CocoEntries) -> dict[object, list[Mapping]]:
    objects: dict = {}
    for annotation in entries.annotations or ():
        objects.setdefault(annotation['image_id'], []).append(annotation)
    return objects


def _compare_images(path: str, entries: CocoEntries, loaded: Mapping, uses: Sequence[DatasetUse]) -> None:
    remedy = f'Set ann_file of the evaluator to {uses[0].annotations}' if len(uses) == 1 else SEVERAL
    where = f'the annotation file {path} does not belong to {uses[0].loader}'
    for identity, (image, _) in loaded.items():
        other = entries.images.get(identity)
        if other is None:
            raise ValueError(f'{where}: it has no image with id {identity!r} ({image["file_name"]}). {remedy}')
        for field in ('file_name', 'width', 'height'):
            ours, theirs = image[field], other[field]
            if field == 'file_name':
                ours, theirs = os.path.basename(ours), os.path.basename(theirs)
            if ours != theirs:
                raise ValueError(
                    f'{where}: {field!r} of the image with id {identity!r} is {short(theirs)} there and {short(ours)} '
                    f'in the file of the loader. {remedy}'
                )
    missed = len(entries.images) - len(loaded)
    if missed:
        raise ValueError(
            f'{where}: it has {len(entries.images)} images, of which {missed} are not loaded, so that their objects '
            f'would count as missed. {remedy}, and test_mode=True for the data set, which then leaves out no images'
        )


def _compare_objects(path: str, entries: CocoEntries, loaded: Mapping, uses: Sequence[DatasetUse]) -> Iterator[str]:
    """Check that most objects are the same: images of two sets may have the same ids, names and sizes."""
    total = overlapping = known = 0
    for identity, theirs in _by_image(entries).items():
        ours = loaded[identity][1]
        total += len(theirs)
        if ours:
            boxes = [np.array([one['bbox'] for one in objects], float) for objects in (theirs, ours)]
            overlaps = mask_utils.iou(*boxes, [0] * len(ours))
            overlapping += int((np.asarray(overlaps).max(1) >= SAME).sum())
            names = {(one['id'], one['category_id']) for one in ours}
            known += sum((one['id'], one['category_id']) in names for one in theirs)
    if not any(ours for _, ours in loaded.values()) or overlapping >= SAME * total:
        return
    found = f'of its {total} objects, {overlapping} have a box in {uses[0].annotations}, which {uses[0].loader} reads'
    if known < total:
        raise ValueError(
            f'the annotation file {path} does not belong to {uses[0].loader}: {found}. Set ann_file of the evaluator '
            'to the file of the data set'
        )
    yield f'are the boxes in {path} those of the same images? {found[0].upper()}{found[1:]}'


def _check_objects(metric: Mapping, path: str, entries: CocoEntries, classes: Sequence[str]) -> Iterator[str]:
    kept, reasons = left_out(entries, classes) if entries.annotations else ([], {})
    if not any(not annotation['iscrowd'] for annotation in kept):
        raise ValueError(
            f'the annotation file {path} has no object of the classes to evaluate. Set ann_file to one that has, or '
            'format_only=True and outfile_prefix of the evaluator to write the detections'
        )
    for reason in (IGNORED, OUTSIDE, TOO_SMALL, NO_AREA):
        if reason in reasons:
            yield f'of {path}, {reasons[reason]} annotations {reason} are evaluated, although loading leaves them out'
    metrics = metric.get('metric', 'bbox')
    if 'segm' not in ([metrics] if isinstance(metrics, str) else metrics):
        return
    # the other reasons to leave an object out apply to loading only
    objects = [
        one
        for one in entries.annotations or ()
        if entries.categories.get(one['category_id'], {}).get('name') in classes
    ]
    check_outlines(entries, objects)
    if bare := without_outline(objects):
        raise ValueError(
            f'{len(bare)} of the {len(objects)} objects in {path} have no outline, for example that with id '
            f"{bare[0]['id']!r}, so that metric 'segm' cannot count them. Add outlines, remove these objects, or set "
            "metric='bbox'"
        )
