"""A small COCO data set whose entries a test changes, and the config that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmmutual.datasets import check_data

CLASSES = ('cat', 'dog')
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
LOAD_MASKS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


def content(start: int = 1) -> dict:
    """Four images of 64 x 48 pixels with a cat and a dog each, whose outlines are their boxes."""
    images = [dict(id=index, file_name=f'{index}.png', width=64, height=48) for index in range(start, start + 4)]
    annotations = []
    for index, image in enumerate(images):
        for category, x in ((1, 2), (2, 34)):
            box = [x + index, 4 + index, 20, 30]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=category,
                    bbox=box,
                    area=600,
                    iscrowd=0,
                    segmentation=[polygon(box)],
                )
            )
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='cat'), dict(id=2, name='dog')])


def polygon(box) -> list[float]:
    """The corners of a box x, y, width, height."""
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def write(root: Path, change: Callable[[dict], object] = lambda c: None, name: str = 'all.json', **options) -> Path:
    """Write a changed annotation file, and the images of the unchanged one."""
    data = content(**options)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    for image in data['images']:
        path = root / 'images' / image['file_name']
        if not path.exists():
            cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    change(data)
    (root / name).write_text(json.dumps(data))
    return root / name


def dataset(root: Path, **options) -> dict:
    """Config of the data set."""
    defaults = dict(
        type='CocoDataset',
        data_root=f'{root}/',
        ann_file='all.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        pipeline=LOAD_MASKS,
    )
    return {**defaults, **options}


def training(root: Path, **options) -> Config:
    """Config of a training without validation."""
    return Config(dict(train_dataloader=dict(dataset=dataset(root, **options))))


def validation(root: Path, evaluator: dict | None = None, **options) -> Config:
    """Config of a validation with masks."""
    metric = dict(type='CocoMetric', ann_file=f'{root}/all.json', metric=['bbox', 'segm'])
    metric.update(evaluator or {})
    return Config(
        dict(val_dataloader=dict(dataset=dataset(root, **{'test_mode': True, **options})), val_evaluator=metric)
    )


def refusal(config: Config, splits: tuple[str, ...] = ('train', 'val')) -> str:
    """The message with which the data are refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_data(config, splits)
    return str(caught.value)


def notes(config: Config, capsys, splits: tuple[str, ...] = ('train', 'val')) -> str:
    """The notes about valid data."""
    capsys.readouterr()
    check_data(config, splits)
    return capsys.readouterr().err


def all_of(**fields):
    """A change of fields of all annotations; a callable gets the annotation."""

    def change(data):
        for annotation in data['annotations']:
            annotation.update({key: value(annotation) if callable(value) else value for key, value in fields.items()})

    return change
