"""Annotations of Pascal VOC: a box without size and other faults are named with their file before training."""

import math

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import VOCDataset, XMLDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmmutual.datasets import check_data
from mmmutual.engine.loss_guard import LossGuard
from mmmutual.engine.pass_losses import PassLosses

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""
SIZE = '<size><width>64</width><height>48</height><depth>3</depth></size>'
BOX = (3, 4, 30, 40)


def annotation(*boxes, size: str = SIZE, name: str = 'cat', difficult: object = 0) -> str:
    objects = [OBJECT.format(name=name, difficult=difficult, box=box) for box in boxes]
    return f'<annotation>{size}{"".join(objects)}</annotation>'


@pytest.fixture
def root(tmp_path):
    for folder in ('Annotations', 'JPEGImages', 'ImageSets'):
        (tmp_path / 'VOC2007' / folder).mkdir(parents=True)
    for name in ('a', 'b', 'c'):
        cv2.imwrite(str(tmp_path / 'VOC2007' / 'JPEGImages' / f'{name}.jpg'), np.zeros((48, 64, 3), np.uint8))
        (tmp_path / 'VOC2007' / 'Annotations' / f'{name}.xml').write_text(annotation(BOX))
    (tmp_path / 'VOC2007' / 'ImageSets' / 'train.txt').write_text('a\nb\nc\n')
    return tmp_path


def config(root, loader: str = 'train', **options) -> Config:
    dataset = dict(
        type='VOCDataset',
        data_root=f'{root}/',
        ann_file='VOC2007/ImageSets/train.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        test_mode=loader != 'train',
    )
    return Config({f'{loader}_dataloader': dict(dataset={**dataset, **options})})


def write(root, text: str, name: str = 'b') -> str:
    path = root / 'VOC2007' / 'Annotations' / f'{name}.xml'
    path.write_text(text)
    return str(path)


def refusal(config) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_data(config)
    return str(caught.value)


@pytest.mark.parametrize('kind', ['VOCDataset', 'mmdet.VOCDataset', VOCDataset], ids=str)
@pytest.mark.parametrize('loader', ['train', 'val'])
def test_good_data_pass(kind, loader, root):
    check_data(config(root, loader, type=kind))
    check_data(config(root, loader, type='XMLDataset', metainfo=dict(classes=('cat',))))
    wrapped = config(root, loader)[f'{loader}_dataloader']
    wrapped.dataset = dict(
        type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[wrapped.dataset])
    )
    check_data({f'{loader}_dataloader': wrapped})


@pytest.mark.parametrize('loader', ['train', 'val'])
@pytest.mark.parametrize('box', [(3, 4, 3, 40), (3, 40, 30, 4), (3.2, 4, 3.9, 40), (30, 4, 3, 40)], ids=str)
def test_a_box_without_size_is_named(box, loader, root):
    path = write(root, annotation(BOX, box))
    message = refusal(config(root, loader))
    assert message.startswith(
        f"{loader}_dataloader: the annotation file {path} has a fault: the box of the object 'cat' has"
    )
    assert 'no size: xmin=3' in message and 'filter_cfg=dict(bbox_min_size=1), which ignores such boxes' in message


def test_ignored_boxes_need_no_size(root):
    write(root, annotation((3, 4, 3, 40)))
    check_data(config(root, filter_cfg=dict(bbox_min_size=1)))
    write(root, annotation((3, 4, 3, 40), difficult=1))
    check_data(config(root))


def test_the_loss_of_such_a_box_names_the_image(root):
    """As mmdet loads it, and as the guard of the training loop meets it."""
    write(root, annotation((3, 4, 3, 40)))
    options = config(root).train_dataloader.dataset
    options.pipeline.append(dict(type='PackDetInputs'))
    sample = DATASETS.build(options)[1]['data_samples']
    losses = dict(loss_bbox=torch.tensor(math.inf))
    with pytest.raises(FloatingPointError, match=r'The image .*/b\.jpg has a box without size, \(2, 3, 2, 39\)'):
        LossGuard('raise').before_step([PassLosses.of('iteration 1', losses, losses)], [sample])


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('<annotation><object>', 'is not XML (no element found'),
        ('', 'are empty files'),
        (
            annotation(BOX, size='<size><width>64</width></size>'),
            'the height in its size should be a whole number, but is No',
        ),
        (
            annotation(BOX, size=SIZE.replace('64', '64.0')),
            "the width in its size should be a whole number, but is '64.0'",
        ),
        (
            annotation(('x', 4, 30, 40)),
            "the object 'cat' should have a bndbox of four numbers xmin, ymin, xmax, ymax, but has",
        ),
        (annotation(('nan', 4, 30, 40)), 'of four numbers'),
        (annotation((0.1, 0.1, 0.5, 0.5)), 'lies between 0 and 1, but should be in pixels'),
        (annotation(BOX).replace('<ymax>40</ymax>', ''), 'of four numbers'),
        (annotation(BOX).replace('<name>cat</name>', ''), 'an object has no name'),
        (
            annotation(BOX, difficult='Unspecified'),
            "'difficult' of the object 'cat' should be 0 or 1, but is 'Unspecified'",
        ),
        (annotation(BOX, size=SIZE.replace('64', '80')), 'b.jpg (is 64 x 48, not 80 x 48)'),
    ],
)
def test_faults_of_a_file(text, reason, root):
    write(root, text)
    message = refusal(config(root))
    assert reason in message and message.startswith('train_dataloader: ')
    assert 'b.xml' in message or 'b.jpg' in message


def test_missing_files_are_named(root):
    (root / 'VOC2007' / 'Annotations' / 'b.xml').unlink()
    assert '1 of the 3 annotation files that ' in (message := refusal(config(root)))
    assert f'are not in {root}/VOC2007/Annotations, for example b.xml. Put them there, or set ann_subdir.' in message
    write(root, annotation(BOX))
    (root / 'VOC2007' / 'JPEGImages' / 'c.jpg').rename(root / 'VOC2007' / 'JPEGImages' / 'c.png')
    assert f'are not in {root}/VOC2007/JPEGImages, for example c.jpg.' in refusal(config(root))


def test_the_list_of_names(root):
    path = root / 'VOC2007' / 'ImageSets' / 'train.txt'
    for text, reason in (
        ('a\n\nb\n', "line 2 of .* is ''"),
        ('a\nb \n', "line 2 of .* is 'b '"),
        ('', 'names no images'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            check_data(config(root))
    path.unlink()
    assert 'there is no annotation file' in refusal(config(root))


def test_classes(root, capsys):
    write(root, annotation(BOX, name='unicorn'))
    check_data(config(root))
    assert "mmdet leaves out 1 objects of the classes ['unicorn']" in capsys.readouterr().err
    assert "3 are of other classes (['cat', 'unicorn']) than ['dog']" in refusal(
        config(root, metainfo=dict(classes=('dog',)))
    ).replace('and 3', '3')
    assert 'has no classes: set metainfo' in refusal(config(root, type='XMLDataset'))


def test_the_filter(root, capsys):
    write(root, annotation())
    check_data(config(root, filter_cfg=dict(filter_empty_gt=True, min_size=48)))
    assert 'filter_cfg leaves out 1 of 3' in capsys.readouterr().err
    assert 'filter_cfg leaves out all 3 images' in refusal(config(root, filter_cfg=dict(min_size=49)))
    write(root, annotation(BOX, size=SIZE.replace('64', '0').replace('48', '0')))
    check_data(config(root))
    message = refusal(config(root, filter_cfg=dict(min_size=32)))
    assert 'states that the image is 0 x 0 pixels, so that filter_cfg leaves it out: correct its size' in message


def test_a_subclass_with_a_loading_of_its_own_is_left_alone(root):
    class Other(XMLDataset):
        METAINFO = dict(classes=('cat',))

        def parse_data_info(self, img_info):
            return dict(instances=[])

    class Named(XMLDataset):
        METAINFO = dict(classes=('cat',))

    write(root, 'no XML')
    check_data(config(root, type=Other))
    assert 'is not XML' in refusal(config(root, type=Named))
