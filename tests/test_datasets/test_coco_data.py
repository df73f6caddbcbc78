"""Damaged COCO annotations: a clear error with file and entry, or a counted skip; never a hang or a wrong label."""

import contextlib
import copy
import json
import math
import random
import re

import coco_data
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from pycocotools import mask as mask_utils

from mmmutual.datasets import check_data
from mmmutual.datasets.coco_data import left_by_filter
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


MUTATIONS = (
    missing_key, wrong_value, missing_list, wrong_list, wrong_entry, bad_box, short_box, empty_box, bad_polygon,
    clashing_ids, unknown_category, unknown_image, other_order, renamed_category, lost_category,
)  # fmt: skip


class CompletedDataset(CocoDataset):
    """Reads as mmdet's does after ``read_completed``."""

    COCOAPI = CompletedCOCO


def instances(config) -> list:
    """What mmdet would train on: image, box and name of the class of each object."""
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
            r"images\[1\]: 'id' should be a whole number or a text, but is None",
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
        (lambda c: c['categories'].pop(), r"its categories are .*is to have \['.*'\] too"),
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


def refusal(config, splits=('train', 'val')) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_data(config, splits)
    return str(caught.value)


def notes(config, capsys, splits=('train', 'val')) -> str:
    capsys.readouterr()
    check_data(config, splits)
    return capsys.readouterr().err


def all_of(**fields):
    """A change of fields of all annotations; a callable gets the annotation."""

    def change(data):
        for annotation in data['annotations']:
            annotation.update({key: value(annotation) if callable(value) else value for key, value in fields.items()})

    return change


def scaled(one):
    x, y, width, height = one['bbox']
    return [x / 64, y / 48, width / 64, height / 48]


def corners(one):
    x, y, width, height = one['bbox']
    return [x, y, x + width, y + height]


def centred(one):
    x, y, width, height = one['bbox']
    return [x + width / 2, y + height / 2, width, height]


class TestBoxes:
    @pytest.mark.parametrize('split', ['train', 'val'])
    @pytest.mark.parametrize('pipeline', [coco_data.LOAD, coco_data.LOAD_MASKS], ids=['boxes', 'masks'])
    @pytest.mark.parametrize(
        ('make', 'text'),
        [
            (scaled, r"each 'bbox' lies between 0 and 1, for example \[0\.03.*of annotation 1, as if in fractions"),
            (corners, r'4 of 8 boxes reach beyond their image, and .* reads well as corners x1, y1, x2, y2'),
        ],
    )
    def test_of_another_format(self, make, text, pipeline, split, tmp_path):
        path = coco_data.write(tmp_path, all_of(bbox=make))
        use = coco_data.training if split == 'train' else coco_data.validation
        message = refusal(use(tmp_path, pipeline=pipeline))
        assert re.search(rf'{split}_dataloader: the annotation file {path} has a fault: {text}', message)

    def test_of_another_format_without_outlines(self, tmp_path):
        coco_data.write(tmp_path, all_of(bbox=corners, segmentation=None))
        assert 'corners' in refusal(coco_data.training(tmp_path, pipeline=coco_data.LOAD))

    def test_around_the_centre_are_seen_by_the_outlines(self, tmp_path):
        coco_data.write(tmp_path, all_of(bbox=centred))
        message = refusal(coco_data.training(tmp_path))
        assert (
            'fits the outlines only as the centre of the box with its width and height, for example [12.0,' in message
        )

    def test_corners_within_the_images_are_seen_by_the_outlines(self, tmp_path):
        def change(data):
            for one in data['annotations']:
                one.update(segmentation=[coco_data.polygon([9, 8, 15, 20])], bbox=[9, 8, 24, 28])

        coco_data.write(tmp_path, change)
        assert 'fits the outlines only as corners x1, y1, x2, y2' in refusal(coco_data.training(tmp_path))

    def test_beyond_the_image_are_counted(self, tmp_path, capsys):
        coco_data.write(tmp_path, lambda c: c['annotations'][1].update(bbox=[50, 4, 30, 30]))
        assert ', 1 boxes reach beyond their image' in notes(coco_data.training(tmp_path), capsys)

    def test_larger_than_their_outlines_pass(self, tmp_path):
        coco_data.write(tmp_path, all_of(bbox=lambda one: [one['bbox'][0] - 2, 0, 28, 47]))
        check_data(coco_data.training(tmp_path))


class TestObjects:
    @pytest.mark.parametrize(
        ('fields', 'text'),
        [
            (dict(area=0), r"no object is left of its 8 annotations .*leaves out 8 with an 'area' of 0 or less"),
            (dict(iscrowd=1), r"no object is left .*8 are crowd regions \('iscrowd' is 1\)"),
            (dict(ignore=1), r"no object is left .*8 that are marked 'ignore'"),
            (dict(category_id=9), r'no object is left .*8 of unknown categories, as category_id 9'),
            (dict(category_id='1'), r"no object is left .*8 of unknown categories, as category_id '1'"),
        ],
        ids=str,
    )
    def test_none_left_to_train_on(self, fields, text, tmp_path):
        path = coco_data.write(tmp_path, all_of(**fields))
        assert re.search(
            f'train_dataloader: the annotation file {path} .*{text}', refusal(coco_data.training(tmp_path))
        )

    def test_none_in_the_file(self, tmp_path):
        coco_data.write(tmp_path, lambda c: c.update(annotations=[]))
        assert 'no object is left of its 0 annotations' in refusal(coco_data.training(tmp_path))
        unlabelled = [dict(type='LoadImageFromFile')]
        coco_data.write(tmp_path, lambda c: c.pop('annotations'))
        check_data(coco_data.training(tmp_path, pipeline=unlabelled))
        assert "has no list 'annotations'" in refusal(coco_data.training(tmp_path))

    def test_left_out_and_absent_classes_are_counted(self, tmp_path, capsys):
        def change(data):
            for one, fields in zip(data['annotations'], (dict(area=0), dict(bbox=[70, 5, 9, 9]), dict(ignore=True))):
                one.update(fields)
            for one in data['annotations'][3::2]:
                one['category_id'] = 1

        coco_data.write(tmp_path, change)
        said = notes(coco_data.training(tmp_path), capsys)
        for text in (
            "1 annotations with an 'area' of 0",
            '1 annotations with a box outside',
            '1 annotations that are marked',
        ):
            assert f'all.json, mmdet leaves out {text}' in said
        assert "no object is of the 1 classes ['dog'], which cannot be learned" in said

    def test_what_was_completed_is_said_once(self, tmp_path, capsys):
        coco_data.write(tmp_path, lambda c: [one.pop('iscrowd') for one in c['annotations'][1:]])
        config = coco_data.validation(tmp_path)
        config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
        assert notes(config, capsys, ('val', 'test')).count("7 annotations have no 'iscrowd', which is taken as 0") == 1

    def test_ids_that_cannot_be_sorted(self, tmp_path):
        def change(data):
            data['images'][0]['id'] = 'first'
            data['annotations'] = data['annotations'][2:]

        coco_data.write(tmp_path, change)
        assert "some 'id' of its images are numbers and some are texts" in refusal(coco_data.training(tmp_path))


class TestOutlines:
    BARE = dict(segmentation=lambda one: [] if one['id'] % 2 else one['segmentation'])

    def test_absent_ones_are_counted_where_masks_are_loaded(self, tmp_path, capsys):
        coco_data.write(tmp_path, all_of(**self.BARE))
        said = notes(coco_data.training(tmp_path), capsys)
        assert 'mmdet ignores 4 annotations without an outline, that is, a mask or a polygon' in said
        assert 'outline' not in notes(coco_data.training(tmp_path, pipeline=coco_data.LOAD), capsys)

    @pytest.mark.parametrize('outline', [None, [], {}, [[1, 2]], [[1, 2, 3, 4]], [[]]], ids=str)
    def test_absent_from_all_objects(self, outline, tmp_path):
        coco_data.write(tmp_path, all_of(segmentation=outline))
        message = refusal(coco_data.training(tmp_path))
        assert 'all 8 objects are without an outline' in message and 'Take a config for boxes' in message
        check_data(coco_data.training(tmp_path, pipeline=coco_data.LOAD))

    def test_damaged_ones_matter_only_where_masks_are_loaded(self, tmp_path):
        coco_data.write(tmp_path, all_of(segmentation=dict(size=[9, 9], counts=[81])))
        assert "the 'size' of its mask is [9, 9], but that of its image [48, 64]" in refusal(
            coco_data.training(tmp_path)
        )
        check_data(coco_data.training(tmp_path, pipeline=coco_data.LOAD))

    def test_masks_where_polygons_are_needed(self, tmp_path, capsys):
        pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False)]
        mask = dict(size=[48, 64], counts=[3072])
        coco_data.write(tmp_path, lambda c: c['annotations'][0].update(segmentation=mask))
        said = notes(coco_data.training(tmp_path, pipeline=pipeline), capsys)
        assert '1 annotations with a mask instead of polygons, which poly2mask=False needs' in said
        coco_data.write(tmp_path, all_of(segmentation=mask, bbox=[0, 0, 64, 48]))
        assert 'poly2mask=False' in refusal(coco_data.training(tmp_path, pipeline=pipeline))

    def test_wrappers_load_too(self, tmp_path):
        coco_data.write(tmp_path, all_of(segmentation=[]))
        inner = coco_data.dataset(tmp_path, pipeline=[dict(type='LoadImageFromFile')])
        outer = dict(type='MultiImageMixDataset', dataset=dict(type='RepeatDataset', times=2, dataset=inner))
        config = Config(dict(train_dataloader=dict(dataset=dict(outer, pipeline=coco_data.LOAD_MASKS))))
        assert 'masks are loaded' in refusal(config)


class TestFilter:
    def test_images_left_out_are_counted(self, tmp_path, capsys):
        def change(data):
            data['annotations'] = data['annotations'][2:]

        coco_data.write(tmp_path, change)
        said = notes(coco_data.training(tmp_path, filter_cfg=dict(filter_empty_gt=True, min_size=48)), capsys)
        assert 'of the 4 images of ' in said
        assert 'filter_cfg leaves out 1 without annotations of the classes (filter_empty_gt)' in said

    def test_none_left(self, tmp_path):
        path = coco_data.write(tmp_path)
        config = coco_data.training(tmp_path, filter_cfg=dict(filter_empty_gt=True, min_size=49))
        assert refusal(config) == (
            f'train_dataloader: filter_cfg leaves out all 4 images of {path}: 4 with a side below min_size=49 pixels. '
            'Change filter_cfg of the data set, or the file.'
        )
        config.train_dataloader.dataset.test_mode = True
        check_data(config)

    def test_agrees_with_mmdet(self, tmp_path):
        def change(data):
            data['annotations'] = data['annotations'][3:]
            data['images'][3]['height'] = 31

        path = coco_data.write(tmp_path, change)
        entries = read_entries(json.loads(path.read_text()))
        for filter_cfg in (
            dict(),
            dict(filter_empty_gt=True),
            dict(min_size=32),
            dict(filter_empty_gt=True, min_size=40),
        ):
            with contextlib.redirect_stdout(None):
                options = dict(coco_data.dataset(tmp_path, filter_cfg=filter_cfg, metainfo=dict(classes=('cat',))))
                options.pop('type')
                found = CocoDataset(**options, serialize_data=False)
            expected = [found.get_data_info(index)['img_id'] for index in range(len(found))]
            assert left_by_filter(filter_cfg, entries, ('cat',))[0] == expected


class TestClasses:
    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_a_text_without_comma(self, split, tmp_path):
        coco_data.write(tmp_path)
        use = coco_data.training if split == 'train' else coco_data.validation
        message = refusal(use(tmp_path, metainfo=dict(classes='cat')))
        assert (
            f"{split}_dataloader: metainfo.classes is the text 'cat'" in message and "write ('cat',), with" in message
        )

    def test_a_file(self, tmp_path):
        coco_data.write(tmp_path)
        names = tmp_path / 'classes.txt'
        names.write_text('cat\ndog\n')
        check_data(coco_data.training(tmp_path, metainfo=dict(classes=str(names))))
        names.write_text('dog\ncat')
        assert "come in the order ['cat', 'dog']" in refusal(
            coco_data.training(tmp_path, metainfo=dict(classes=str(names)))
        )
        names.write_text('cat\n\ndog\n')
        assert 'has a blank line' in refusal(coco_data.training(tmp_path, metainfo=dict(classes=str(names))))

    def test_the_key_of_another_version(self, tmp_path):
        coco_data.write(tmp_path)
        assert "metainfo has 'CLASSES'" in refusal(coco_data.training(tmp_path, metainfo=dict(CLASSES=('cat', 'dog'))))

    def test_named_twice(self, tmp_path):
        coco_data.write(tmp_path, lambda c: c['categories'].append(dict(id=3, name='cat')))
        message = refusal(coco_data.training(tmp_path, metainfo=dict(classes=('cat', 'dog', 'cat'))))
        assert "metainfo.classes has ['cat'] more than once" in message

    def test_an_unused_root_of_the_same_name_is_left_out(self, tmp_path, capsys):
        coco_data.write(tmp_path, lambda c: c['categories'].insert(0, dict(id=0, name='cat', supercategory='none')))
        said = notes(coco_data.training(tmp_path), capsys)
        assert '1 categories without objects share their name with another category and are left out' in said

    def test_two_used_categories_of_one_name(self, tmp_path):
        def change(data):
            data['categories'].append(dict(id=3, name='cat'))
            data['annotations'][0]['category_id'] = 3

        coco_data.write(tmp_path, change)
        assert "several categories that have objects share the name ['cat']" in refusal(coco_data.training(tmp_path))


class TestSubclasses:
    """What a class overrides decides how much is known of its files."""

    class Named(CocoDataset):
        METAINFO = dict(classes=coco_data.CLASSES)

    class Extended(Named):
        def load_data_list(self):
            return super().load_data_list()[:2]

        def parse_data_info(self, raw_data_info):
            return dict(super().parse_data_info(raw_data_info), source='here')

    class Rewritten(Named):
        def parse_data_info(self, raw_data_info):
            return dict(img_path='elsewhere', instances=[])

    class Unfiltered(Named):
        def filter_data(self):
            return self.data_list

    @pytest.fixture
    def config(self, tmp_path):
        coco_data.write(tmp_path, all_of(area=0))

        def make(kind, **options):
            config = coco_data.training(tmp_path, type=kind, **options)
            del config.train_dataloader.dataset['metainfo']
            return config

        return make

    @pytest.mark.parametrize('kind', [Named, Extended])
    def test_that_read_as_the_base_class_does(self, kind, config):
        assert 'no object is left' in refusal(config(kind))

    def test_by_their_registered_name(self, config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATASETS.module_dict, 'NamedInATest', self.Named)
            assert 'no object is left' in refusal(config('NamedInATest'))

    def test_that_read_otherwise(self, config, tmp_path):
        check_data(config(self.Rewritten))
        (tmp_path / 'all.json').unlink()
        assert 'there is no annotation file' in refusal(config(self.Rewritten))

    def test_images_may_be_elsewhere(self, config, tmp_path):
        coco_data.write(tmp_path)
        (tmp_path / 'images' / '1.png').unlink()
        assert '1 of the 4 images' in refusal(config(self.Named))
        check_data(config(self.Extended))

    def test_with_a_filter_of_their_own(self, config, tmp_path):
        coco_data.write(tmp_path)
        assert 'leaves out all 4' in refusal(config(self.Named, filter_cfg=dict(min_size=999)))
        check_data(config(self.Unfiltered, filter_cfg=dict(min_size=999)))

    @pytest.mark.parametrize('kind', ['Objects365V1Dataset', 'CityscapesDataset'])
    def test_of_mmdet(self, kind, config, tmp_path):
        coco_data.write(tmp_path, lambda c: c['annotations'][0].pop('bbox'))
        assert "annotations[0] with id 1 has no 'bbox'" in refusal(config(kind))
