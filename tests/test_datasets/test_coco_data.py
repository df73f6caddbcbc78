"""Damaged COCO annotations: a clear error with file and entry, or a counted skip; never a hang or a wrong label."""

import contextlib
import copy
import json
import math
import random

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from pycocotools import mask as mask_utils

from mmmutual.datasets import check_data
from mmmutual.datasets.coco_entries import read_entries
from mmmutual.datasets.coco_objects import left_out
from mmmutual.datasets.completed_coco import CompletedCOCO
from mmmutual.datasets.outlines import check_outline

CLASSES = ('striped circle', 'striped triangle', 'solid circle', 'solid triangle')
WRONG = (None, 'text', True, [], {}, [None], math.nan, math.inf, -math.inf, 1.5, -7, [[]], [['a'] * 6], {'counts': 3})
FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'),
    'categories': ('id', 'name'),
}


@pytest.fixture(scope='module')
def good(tiny_data) -> dict:
    return json.loads((tiny_data / 'annotations' / 'train.json').read_text())


def one_of(content, rng) -> tuple[dict, str]:
    kind = rng.choice(list(FIELDS))
    return rng.choice(content[kind]), rng.choice(FIELDS[kind])


def missing_key(content, rng):
    entry, field = one_of(content, rng)
    entry.pop(field, None)


def wrong_value(content, rng):
    entry, field = one_of(content, rng)
    entry[field] = rng.choice([value for value in WRONG if not isinstance(entry.get(field), type(value))])


def missing_list(content, rng):
    del content[rng.choice(list(FIELDS))]


def wrong_list(content, rng):
    content[rng.choice(list(FIELDS))] = rng.choice([value for value in WRONG if value != []])


def wrong_entry(content, rng):
    rng.choice(list(content[kind] for kind in FIELDS)).append(rng.choice(WRONG))


def bad_box(content, rng):
    box = rng.choice(content['annotations'])['bbox']
    box[rng.randrange(4)] = rng.choice([math.nan, math.inf, -1e9, 'x', None, 1e9 * math.nan])


def short_box(content, rng):
    rng.choice(content['annotations'])['bbox'].pop()


def empty_box(content, rng):
    rng.choice(content['annotations'])['bbox'][rng.randrange(2, 4)] = rng.choice([0, -5, 0.5])


def bad_polygon(content, rng):
    bad = [[], [[]], [[1, 2]], [[1, 2, 3, 4, 5]], [[math.nan] * 6], [['a'] * 8], [None], 'text', 7, {}, {'counts': 'x'}]
    rng.choice(content['annotations'])['segmentation'] = rng.choice(bad)


def clashing_ids(content, rng):
    first, second = rng.sample(content[rng.choice(list(FIELDS))], 2)
    first['id'] = second['id']


def unknown_category(content, rng):
    rng.choice(content['annotations'])['category_id'] = rng.choice([99, -1, 'cat'])


def unknown_image(content, rng):
    rng.choice(content['annotations'])['image_id'] = rng.choice([10**9, -1, 'x'])


def other_order(content, rng):
    first, *others = content['categories']
    content['categories'] = [*others, first]


def renamed_category(content, rng):
    rng.choice(content['categories'])['name'] = 'unheard of'


def lost_category(content, rng):
    content['categories'].pop(rng.randrange(len(content['categories'])))


def other_ids(content, rng):
    numbered = rng.choice([lambda index: index, str, lambda index: f'id-{index}', float, lambda index: None])
    for index, annotation in enumerate(content['annotations']):
        annotation['id'] = numbered(index)


def absent_everywhere(content, rng):
    field = rng.choice(['id', 'area', 'iscrowd'])
    for annotation in content['annotations']:
        annotation.pop(field)


def boxes_of_another_format(content, rng):
    fractions = rng.random() < 0.5
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        other = [x / 64, y / 64, width / 64, height / 64] if fractions else [x, y, x + width, y + height]
        annotation['bbox'] = other


def doubled_category(content, rng):
    category = rng.choice(content['categories'])
    content['categories'].insert(0, dict(id=99, name=category['name']))


MUTATIONS = (
    missing_key, wrong_value, missing_list, wrong_list, wrong_entry, bad_box, short_box, empty_box, bad_polygon,
    clashing_ids, unknown_category, unknown_image, other_order, renamed_category, lost_category,
    other_ids, absent_everywhere, boxes_of_another_format, doubled_category,
)  # fmt: skip


class CompletedDataset(CocoDataset):
    """Reads as mmdet's does after ``read_completed``."""

    COCOAPI = CompletedCOCO


def instances(config) -> list:
    """The objects that mmdet would train on: image, box and class name of each."""
    options = {key: value for key, value in config.items() if key not in ('type', 'pipeline')}
    with contextlib.redirect_stdout(None):
        dataset = CompletedDataset(**options, pipeline=[], serialize_data=False)  # which collects garbage
    names = dataset.metainfo['classes']
    return [
        (info['img_path'], tuple(item['bbox']), names[item['bbox_label']])
        for info in map(dataset.get_data_info, range(len(dataset)))
        for item in info['instances']
    ]


def config_for(path, tiny_data) -> Config:
    dataset = dict(
        type='CocoDataset',
        ann_file=str(path),
        data_prefix=dict(img=f'{tiny_data}/train/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
    )
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def test_200_damaged_files(good, tiny_data, tmp_path, capsys):
    path = tmp_path / 'damaged.json'
    path.write_text(json.dumps(good))
    config = config_for(path, tiny_data)
    check_data(config)
    expected = instances(config.train_dataloader.dataset)
    assert len(expected) == len(good['annotations'])
    outcomes = dict(refused=0, left_out=0, harmless=0)
    for number in range(200):
        rng, content = random.Random(number), copy.deepcopy(good)
        mutate = MUTATIONS[number % len(MUTATIONS)]
        mutate(content, rng)
        path.write_text(json.dumps(content))
        capsys.readouterr()
        try:
            check_data(config)
        except (ValueError, FileNotFoundError) as error:
            assert str(path) in str(error), (mutate.__name__, error)
            outcomes['refused'] += 1
            continue
        left = instances(config.train_dataloader.dataset)
        assert set(left) <= set(expected), f'{mutate.__name__} {number}: a wrong label'
        printed = capsys.readouterr().err
        if len(left) < len(expected):
            assert f'of {path}, mmdet leaves out {len(expected) - len(left)} annotations' in printed, mutate.__name__
            outcomes['left_out'] += 1
        else:
            outcomes['harmless'] += 1
    print(outcomes)
    assert outcomes['refused'] > 120 and outcomes['left_out'] > 10, outcomes


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda c: c['images'][1].pop('width'), r"images\[1\] with id \d+ has no 'width'"),
        (
            lambda c: c['images'][1].update(height='9'),
            r"images\[1\] with id \d+: 'height' should be a whole number above 0",
        ),
        (
            lambda c: c['images'][1].update(id=None),
            r"images\[1\]: 'id' should be a whole number \(below 2\*\*63\) or a text, but is None",
        ),
        (lambda c: c['annotations'].append(3), r'annotations\[\d+\] should be an object, but is 3'),
        (
            lambda c: c['annotations'][2].update(bbox=[0, 0, math.nan, 1]),
            r"annotations\[2\].*'bbox' should be four finite",
        ),
        (
            lambda c: c['annotations'][2].update(id=c['annotations'][1]['id']),
            r'annotations\[2\] with id \d+: an earlier',
        ),
        (
            lambda c: c['annotations'][2].update(image_id=77777),
            r'annotation \d+: there is no image with its image_id 77777',
        ),
        (
            lambda c: c['annotations'][2].update(segmentation=[[None] * 6]),
            r'annotation \d+: a polygon should be a list of',
        ),
        (
            lambda c: c['annotations'][2].update(segmentation=dict(size=[1, 1], counts=[1])),
            r"annotation \d+: the 'size' of its mask is \[1, 1\], but that of its image \[64, 64\]",
        ),
        (
            lambda c: c['annotations'][2].update(segmentation=dict(size=[64, 64], counts=[5000])),
            r"annotation \d+: the 'counts' of its mask make 5000 pixels, but its image has 4096",
        ),
        (
            lambda c: c['annotations'][2].update(segmentation=dict(size=[64, 64], counts='~~')),
            r"annotation \d+: the 'counts' of its mask make no whole number of pixels, but its image has 4096",
        ),
        (lambda c: c['annotations'][2].update(segmentation='x'), r"annotation \d+: 'segmentation' should be a list of"),
        (lambda c: c.pop('annotations'), "it has no list 'annotations'"),
        (lambda c: c['categories'].reverse(), r'its categories come in the order .*Set metainfo=dict\(classes=...\)'),
        (lambda c: c['categories'].pop(), r"its categories are .*metainfo.classes also has \['.*'\]"),
    ],
)
def test_messages(change, text, good, tiny_data, tmp_path):
    content = copy.deepcopy(good)
    change(content)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f'train_dataloader: the annotation file {path} has a fault: {text}'):
        check_data(config_for(path, tiny_data))


def test_masks_of_pycocotools_pass():
    """Both ways of writing runs, also with holes."""
    rows = [[(x * y // 7 + x) % 5 < 2 for x in range(64)] for y in range(64)]
    counts = mask_utils.encode(np.asfortranarray(rows, dtype='uint8'))['counts'].decode()
    check_outline(dict(size=[64, 64], counts=counts), [64, 64])
    check_outline(dict(size=[64, 64], counts=[4000, 96]), [64, 64])
    with pytest.raises(ValueError, match='make .* pixels, but its image has 4096'):
        check_outline(dict(size=[64, 64], counts=counts[:-2]), [64, 64])


def test_annotations_of_other_classes_are_counted(good):
    names = {category['id']: category['name'] for category in good['categories']}
    others = sum(names[annotation['category_id']] not in CLASSES[1:3] for annotation in good['annotations'])
    kept, reasons = left_out(read_entries(copy.deepcopy(good)), CLASSES[1:3])
    assert others and reasons == {'of categories that are not among the classes': others}
    assert len(kept) + others == len(good['annotations'])
