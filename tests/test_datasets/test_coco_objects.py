"""Boxes, outlines and filters of COCO files: what training and evaluation would read wrong is refused or counted."""

import contextlib
import json
import re

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmmutual.datasets import check_data
from mmmutual.datasets.coco_data import left_by_filter
from mmmutual.datasets.coco_entries import read_entries
from tests.support import small_coco
from tests.support.small_coco import all_of, notes, refusal


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
    @pytest.mark.parametrize('pipeline', [small_coco.LOAD, small_coco.LOAD_MASKS], ids=['boxes', 'masks'])
    @pytest.mark.parametrize(
        ('make', 'text'),
        [
            (scaled, r"each 'bbox' lies between 0 and 1, for example \[0\.03.*of annotation 1, as if in fractions"),
            (corners, r'4 of 8 boxes reach beyond their image, and .* is valid as corners x1, y1, x2, y2'),
        ],
    )
    def test_of_another_format(self, make, text, pipeline, split, tmp_path):
        path = small_coco.write(tmp_path, all_of(bbox=make))
        use = small_coco.training if split == 'train' else small_coco.validation
        message = refusal(use(tmp_path, pipeline=pipeline))
        assert re.search(rf'{split}_dataloader: the annotation file {path} has a fault: {text}', message)

    def test_of_another_format_without_outlines(self, tmp_path):
        small_coco.write(tmp_path, all_of(bbox=corners, segmentation=None))
        assert 'corners' in refusal(small_coco.training(tmp_path, pipeline=small_coco.LOAD))

    def test_around_the_centre_are_seen_by_the_outlines(self, tmp_path):
        small_coco.write(tmp_path, all_of(bbox=centred))
        message = refusal(small_coco.training(tmp_path))
        assert (
            'fits the outlines only as the centre of the box with its width and height, for example [12.0,' in message
        )

    def test_corners_within_the_images_are_seen_by_the_outlines(self, tmp_path):
        def change(data):
            for one in data['annotations']:
                one.update(segmentation=[small_coco.polygon([9, 8, 15, 20])], bbox=[9, 8, 24, 28])

        small_coco.write(tmp_path, change)
        assert 'fits the outlines only as corners x1, y1, x2, y2' in refusal(small_coco.training(tmp_path))

    def test_beyond_the_image_are_counted(self, tmp_path, capsys):
        small_coco.write(tmp_path, lambda c: c['annotations'][1].update(bbox=[50, 4, 30, 30]))
        assert ', 1 boxes reach beyond their image' in notes(small_coco.training(tmp_path), capsys)

    def test_larger_than_their_outlines_pass(self, tmp_path):
        small_coco.write(tmp_path, all_of(bbox=lambda one: [one['bbox'][0] - 2, 0, 28, 47]))
        check_data(small_coco.training(tmp_path))


class TestObjects:
    @pytest.mark.parametrize(
        ('fields', 'text'),
        [
            (
                dict(area=0),
                r"no object is left to train on of its 8 annotations .*leaves out 8 with an 'area' of 0 or less",
            ),
            (
                dict(iscrowd=1),
                r"no object is left to train on of its 8 annotations \(8 are crowd regions \('iscrowd' is 1\)",
            ),
            (dict(ignore=1), r"no object is left .*8 that are marked 'ignore'"),
            (dict(category_id=9), r'no object is left .*8 of unknown categories, for example category_id 9'),
            (
                dict(category_id='1'),
                r"no object is left .*8 of unknown categories, for example category_id '1'",
            ),
        ],
        ids=str,
    )
    def test_none_left_to_train_on(self, fields, text, tmp_path):
        path = small_coco.write(tmp_path, all_of(**fields))
        assert re.search(
            f'train_dataloader: the annotation file {path} .*{text}', refusal(small_coco.training(tmp_path))
        )

    @pytest.mark.parametrize('crowds', [0, 1, 3])
    def test_many_crowd_regions_are_counted(self, crowds, tmp_path, capsys):
        """Some labelling tools export each mask as a crowd region."""

        def change(data):
            data['annotations'] *= 2
            data['annotations'] = [dict(one, id=index) for index, one in enumerate(data['annotations'], 1)]
            for annotation in data['annotations'][:crowds]:
                annotation['iscrowd'] = 1

        small_coco.write(tmp_path, change)
        said = notes(small_coco.training(tmp_path), capsys)
        counted = "3 of 16 annotations are crowd regions ('iscrowd' is 1), which are ignored"
        assert (counted in said) == (crowds == 3) and ('crowd' in said) == (crowds == 3)

    def test_none_in_the_file(self, tmp_path):
        small_coco.write(tmp_path, lambda c: c.update(annotations=[]))
        assert 'no object is left to train on of its 0 annotations' in refusal(small_coco.training(tmp_path))
        unlabelled = [dict(type='LoadImageFromFile')]
        small_coco.write(tmp_path, lambda c: c.pop('annotations'))
        check_data(small_coco.training(tmp_path, pipeline=unlabelled))
        assert "has no list 'annotations'" in refusal(small_coco.training(tmp_path))

    def test_left_out_and_absent_classes_are_counted(self, tmp_path, capsys):
        def change(data):
            for one, fields in zip(data['annotations'], (dict(area=0), dict(bbox=[70, 5, 9, 9]), dict(ignore=True))):
                one.update(fields)
            for one in data['annotations'][3::2]:
                one['category_id'] = 1

        small_coco.write(tmp_path, change)
        said = notes(small_coco.training(tmp_path), capsys)
        for text in (
            "1 annotations with an 'area' of 0",
            '1 annotations with a box outside',
            '1 annotations that are marked',
        ):
            assert f'all.json, mmdet leaves out {text}' in said
        assert "no object is of the 1 classes ['dog'], which cannot be learned" in said

    def test_what_was_completed_is_said_once(self, tmp_path, capsys):
        small_coco.write(tmp_path, lambda c: [one.pop('iscrowd') for one in c['annotations'][1:]])
        config = small_coco.validation(tmp_path)
        config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
        assert notes(config, capsys, ('val', 'test')).count("7 annotations have no 'iscrowd', which is set to 0") == 1

    def test_ids_that_cannot_be_sorted(self, tmp_path):
        def change(data):
            data['images'][0]['id'] = 'first'
            data['annotations'] = data['annotations'][2:]

        small_coco.write(tmp_path, change)
        assert "some 'id' of its images are numbers and some are texts" in refusal(small_coco.training(tmp_path))

    def test_ids_that_numpy_cannot_hold(self, tmp_path):
        small_coco.write(tmp_path, lambda c: c['images'][0].update(id=2**63))
        assert "'id' should be a whole number (below 2**63) or a text" in refusal(small_coco.training(tmp_path))


class TestOutlines:
    BARE = dict(segmentation=lambda one: [] if one['id'] % 2 else one['segmentation'])

    def test_absent_ones_are_counted_where_masks_are_loaded(self, tmp_path, capsys):
        small_coco.write(tmp_path, all_of(**self.BARE))
        said = notes(small_coco.training(tmp_path), capsys)
        assert 'mmdet ignores 4 annotations without an outline, that is, a mask or a polygon' in said
        assert 'outline' not in notes(small_coco.training(tmp_path, pipeline=small_coco.LOAD), capsys)

    @pytest.mark.parametrize('outline', [None, [], {}, [[1, 2]], [[1, 2, 3, 4]], [[]]], ids=str)
    def test_absent_from_all_objects(self, outline, tmp_path):
        small_coco.write(tmp_path, all_of(segmentation=outline))
        message = refusal(small_coco.training(tmp_path))
        assert 'all 8 objects are without an outline' in message and 'Use a config for boxes' in message
        check_data(small_coco.training(tmp_path, pipeline=small_coco.LOAD))

    def test_damaged_ones_matter_only_where_masks_are_loaded(self, tmp_path):
        small_coco.write(tmp_path, all_of(segmentation=dict(size=[9, 9], counts=[81])))
        assert "the 'size' of its mask is [9, 9], but that of its image [48, 64]" in refusal(
            small_coco.training(tmp_path)
        )
        check_data(small_coco.training(tmp_path, pipeline=small_coco.LOAD))

    def test_masks_where_polygons_are_needed(self, tmp_path, capsys):
        pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False)]
        mask = dict(size=[48, 64], counts=[3072])
        small_coco.write(tmp_path, lambda c: c['annotations'][0].update(segmentation=mask))
        said = notes(small_coco.training(tmp_path, pipeline=pipeline), capsys)
        assert '1 annotations with a mask instead of polygons, which poly2mask=False needs' in said
        small_coco.write(tmp_path, all_of(segmentation=mask, bbox=[0, 0, 64, 48]))
        assert 'poly2mask=False' in refusal(small_coco.training(tmp_path, pipeline=pipeline))

    def test_wrappers_load_too(self, tmp_path):
        small_coco.write(tmp_path, all_of(segmentation=[]))
        inner = small_coco.dataset(tmp_path, pipeline=[dict(type='LoadImageFromFile')])
        outer = dict(type='MultiImageMixDataset', dataset=dict(type='RepeatDataset', times=2, dataset=inner))
        config = Config(dict(train_dataloader=dict(dataset=dict(outer, pipeline=small_coco.LOAD_MASKS))))
        assert 'masks are loaded' in refusal(config)


class TestFilter:
    def test_images_left_out_are_counted(self, tmp_path, capsys):
        def change(data):
            data['annotations'] = data['annotations'][2:]

        small_coco.write(tmp_path, change)
        said = notes(small_coco.training(tmp_path, filter_cfg=dict(filter_empty_gt=True, min_size=48)), capsys)
        assert 'of the 4 images of ' in said
        assert 'filter_cfg leaves out 1 without annotations of the classes (filter_empty_gt)' in said

    def test_none_left(self, tmp_path):
        path = small_coco.write(tmp_path)
        config = small_coco.training(tmp_path, filter_cfg=dict(filter_empty_gt=True, min_size=49))
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

        path = small_coco.write(tmp_path, change)
        entries = read_entries(json.loads(path.read_text()))
        for filter_cfg in (
            dict(),
            dict(filter_empty_gt=True),
            dict(min_size=32),
            dict(filter_empty_gt=True, min_size=40),
        ):
            with contextlib.redirect_stdout(None):
                options = dict(small_coco.dataset(tmp_path, filter_cfg=filter_cfg, metainfo=dict(classes=('cat',))))
                options.pop('type')
                found = CocoDataset(**options, serialize_data=False)
            expected = [found.get_data_info(index)['img_id'] for index in range(len(found))]
            assert left_by_filter(filter_cfg, entries, ('cat',))[0] == expected
