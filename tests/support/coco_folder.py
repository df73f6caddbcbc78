"""A small COCO data set on disk, and how the check of the data refuses it."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmmutual.datasets import check_data

NAMES = ('a.jpg', 'sub/b.jpg', 'sub/deep/c.jpg')


def draw(root: Path, names=NAMES, present=None) -> Path:
    """Write an annotation file that names images, and some of them."""
    for name in names if present is None else present:
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'image')
    (root / 'images').mkdir(parents=True, exist_ok=True)
    images = [dict(id=index, file_name=name, height=9, width=9) for index, name in enumerate(names)]
    categories = [dict(id=index, name=name) for index, name in enumerate(CocoDataset.METAINFO['classes'])]
    content = dict(images=images, categories=categories, annotations=[])
    (root / 'images.json').write_text(json.dumps(content))
    return root


def coco(root, **options) -> dict:
    defaults = dict(type='CocoDataset', data_root=f'{root}/', ann_file='images.json', data_prefix=dict(img='images/'))
    return {**defaults, **options}


def loading(dataset: dict, split: str = 'train', **options) -> Config:
    return Config({f'{split}_dataloader': dict(batch_size=2, dataset=dataset), **options})


def refusal(config, error=FileNotFoundError, **options) -> str:
    with pytest.raises(error) as caught:
        check_data(config, **options)
    assert caught.type is error  # not a subclass, for example JSONDecodeError
    return str(caught.value)
