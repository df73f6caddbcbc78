"""An evaluator that reads another set than its loader, or one that it cannot evaluate, is refused before the run."""

import shutil

import pytest
from mmengine.config import Config

from mmmutual.datasets import check_data
from tests.support import small_coco
from tests.support.small_coco import refusal


def reads(root, name: str, **options) -> Config:
    """A validation whose evaluator reads another file than its loader."""
    return small_coco.validation(root, dict(ann_file=str(root / name), **options))


@pytest.fixture
def root(tmp_path):
    small_coco.write(tmp_path)
    return tmp_path


class TestItsFile:
    def test_that_of_the_loader(self, root):
        check_data(small_coco.validation(root), ('val',))
        shutil.copy(root / 'all.json', root / 'copy.json')
        check_data(reads(root, 'copy.json'), ('val',))

    @pytest.mark.parametrize('split', ['val', 'test'])
    def test_missing(self, split, root):
        config = reads(root, 'none.json')
        if split == 'test':
            config = Config(dict(test_dataloader=config.val_dataloader, test_evaluator=[config.val_evaluator]))
        assert refusal(config, (split,)).startswith(
            f'{split}_evaluator: there is no annotation file {root}/none.json. Put it there, or set ann_file of the'
        )

    def test_damaged(self, root):
        (root / 'cut.json').write_text((root / 'all.json').read_text()[:-9])
        assert refusal(reads(root, 'cut.json')).startswith(
            f'val_evaluator: the annotation file {root}/cut.json is not JSON'
        )

    @pytest.mark.parametrize(
        ('change', 'text'),
        [
            (lambda c: c['images'].pop(), 'it has no image with id 4 (4.png)'),
            (
                lambda c: c['images'][1].update(file_name='other.png'),
                "'file_name' of the image with id 2 is 'other.png'",
            ),
            (
                lambda c: c['images'][1].update(width=65),
                "'width' of the image with id 2 is 65 there and 64 in the file",
            ),
            (
                lambda c: c['images'].append(dict(c['images'][0], id=5)),
                'it has 5 images, of which 1 are not loaded, so that their objects would count as missed',
            ),
            (
                lambda c: [one.update(id=one['id'] + 50, bbox=[0, 0, 3, 3]) for one in c['annotations']],
                'of its 8 objects, 0 have a box in',
            ),
        ],
    )
    def test_of_other_images(self, change, text, root):
        def without_last(data):
            change(data)
            ids = [image['id'] for image in data['images']]
            data['annotations'] = [one for one in data['annotations'] if one['image_id'] in ids]

        path = small_coco.write(root, without_last, 'other.json')
        message = refusal(reads(root, 'other.json'))
        assert message.startswith(f'val_evaluator: the annotation file {path} does not belong to val_dataloader: ')
        assert text in message and f'{root}/all.json' in message

    def test_moved_boxes_of_the_same_objects_are_said(self, root, capsys):
        def move(data):
            for one in data['annotations']:
                one.update(bbox=[0, 0, 3, 3], segmentation=[small_coco.polygon([0, 0, 3, 3])])

        small_coco.write(root, move, 'moved.json')
        check_data(reads(root, 'moved.json'), ('val',))
        assert 'Of its 8 objects, 0 have a box in' in capsys.readouterr().err

    def test_corrected_boxes_and_images_without_annotations_pass(self, root):
        def correct(data):
            for one in data['annotations']:
                one['bbox'][0] += 2

        small_coco.write(root, correct, 'corrected.json')
        check_data(reads(root, 'corrected.json'), ('val',))
        small_coco.write(root, lambda c: c.pop('annotations'), 'images.json')
        config = small_coco.validation(root, ann_file='images.json')
        check_data(config, ('val',))

    def test_a_filter_that_leaves_images_out(self, root):
        small_coco.write(root, lambda c: c['annotations'].__delitem__(slice(0, 2)))
        options = dict(filter_cfg=dict(filter_empty_gt=True))
        assert 'of which 1 are not loaded' in refusal(small_coco.validation(root, test_mode=False, **options))
        check_data(small_coco.validation(root, **options), ('val',))

    def test_a_part_of_the_images_is_said(self, root, capsys):
        check_data(small_coco.validation(root, indices=2), ('val',))
        assert 'val_dataloader: it loads a part of its images (indices)' in capsys.readouterr().err

    def test_two_data_sets_with_the_same_ids(self, root):
        """Each image would get the detections of two, of whatever content they are."""
        small_coco.write(root, name='copy.json')
        config = small_coco.validation(root)
        one = config.val_dataloader.dataset
        sets = [one, dict(one, ann_file='copy.json')]
        config.val_dataloader.dataset = dict(type='ConcatDataset', datasets=sets)
        message = refusal(config)
        assert message.startswith(
            f'val_evaluator: two data sets of val_dataloader have an image with id 1 (1.png, and 1.png of {root}/copy.json'
        )
        assert 'with MultiDatasetsEvaluator, or the evaluator one file' in message
        metrics = [dict(config.val_evaluator, ann_file=f'{root}/{name}') for name in ('all.json', 'copy.json')]
        config.val_evaluator = dict(type='MultiDatasetsEvaluator', metrics=metrics, dataset_prefixes=['a', 'b'])
        check_data(config, ('val',))

    def test_other_classes(self, root):
        small_coco.write(root, lambda c: c['categories'].reverse(), 'other.json')
        assert "come in the order ['dog', 'cat']" in refusal(reads(root, 'other.json'))


class TestObjects:
    @pytest.mark.parametrize(
        'change',
        [
            lambda c: c.update(annotations=[]),
            lambda c: c.pop('annotations'),
            lambda c: [one.update(iscrowd=1) for one in c['annotations']],
        ],
    )
    def test_none(self, change, root):
        small_coco.write(root, change)
        assert 'has no object of the classes to evaluate' in refusal(small_coco.validation(root))
        check_data(small_coco.validation(root, dict(format_only=True, outfile_prefix='out')), ('val',))

    @pytest.mark.parametrize(
        ('fields', 'reason'),
        [
            (dict(ignore=1), "that are marked 'ignore'"),
            (dict(area=0), "with an 'area' of 0 or less"),
            (dict(bbox=[2, 2, 0, 0]), 'with a box below 1 pixel'),
            (dict(bbox=[200, 2, 9, 9]), 'with a box outside its image'),
        ],
        ids=str,
    )
    def test_that_loading_leaves_out_are_evaluated(self, fields, reason, root, capsys):
        small_coco.write(root, lambda c: c['annotations'][0].update(fields))
        check_data(small_coco.validation(root), ('val',))
        said = capsys.readouterr().err
        assert f'of {root}/all.json, 1 annotations {reason} are evaluated, although loading leaves them out' in said

    def test_without_outline(self, root):
        small_coco.write(root, lambda c: c['annotations'][2].update(segmentation=[]))
        message = refusal(small_coco.validation(root, pipeline=small_coco.LOAD))
        assert message.startswith(
            f'val_evaluator: 1 of the 8 objects in {root}/all.json have no outline, for example that'
        )
        assert "with id 3, so that metric 'segm' cannot count them" in message
        check_data(small_coco.validation(root, dict(metric='bbox')), ('val',))
        small_coco.write(root, lambda c: [one.update(segmentation=[]) for one in c['annotations']])
        assert 'outline' in refusal(small_coco.validation(root, dict(metric='segm'), pipeline=small_coco.LOAD))

    def test_without_a_file_the_pipeline_hands_them_on(self, root):
        def config(**packing):
            pipeline = [*small_coco.LOAD, dict(type='PackDetInputs', **packing)]
            return small_coco.validation(root, dict(ann_file=None), pipeline=pipeline)

        assert "add 'instances' to the meta_keys of PackDetInputs" in refusal(config(meta_keys=('img_id',)))
        check_data(config(meta_keys=('img_id', 'instances')), ('val',))
        other = config(meta_keys=('img_id',))
        other.val_evaluator.type = 'FasterCocoMetric'  # which counts other objects
        check_data(other, ('val',))


class TestSeveral:
    @pytest.fixture
    def datasets(self, root):
        small_coco.write(root, name='second.json', start=5)
        return [small_coco.dataset(root, test_mode=True, ann_file=name) for name in ('all.json', 'second.json')]

    @staticmethod
    def config(root, datasets, evaluator) -> Config:
        return Config(
            dict(val_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=datasets)), val_evaluator=evaluator)
        )

    def test_one_evaluator_each(self, root, datasets):
        metrics = [dict(type='CocoMetric', ann_file=str(root / name)) for name in ('all.json', 'second.json')]
        evaluator = dict(type='MultiDatasetsEvaluator', metrics=metrics, dataset_prefixes=['a', 'b'])
        check_data(self.config(root, datasets, evaluator), ('val',))
        evaluator['metrics'] = metrics[::-1]
        assert 'it has no image with id 1' in refusal(self.config(root, datasets, evaluator))

    def test_one_evaluator_of_all(self, root, datasets):
        one = dict(type='CocoMetric', ann_file=str(root / 'all.json'))
        assert 'MultiDatasetsEvaluator' in refusal(self.config(root, datasets, one))


def test_other_metrics_and_data_sets_are_left_alone(root):
    config = small_coco.validation(root)
    config.val_evaluator = dict(type='VOCMetric', ann_file='nowhere')
    check_data(config, ('val',))
    config.val_evaluator = dict(type='CocoMetric', ann_file='s3://bucket/all.json')
    check_data(config, ('val',))
