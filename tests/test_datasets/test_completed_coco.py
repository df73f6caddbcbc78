"""COCO files with gaps are completed as they are read, and evaluated as if they had none."""

import contextlib
import copy
import json
import pickle

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner
from pycocotools import mask as mask_utils

from mmmutual.datasets import check_data
from mmmutual.datasets.completed_coco import CompletedCOCO, complete, read_completed
from tests.support.small_coco import CLASSES, content, dataset, write


@pytest.fixture(autouse=True)
def _read_completed():
    read_completed()


def load(root, **options) -> CocoDataset:
    with contextlib.redirect_stdout(None):
        return DATASETS.build(dataset(root, test_mode=True, serialize_data=False, **options))


def evaluate(root, name_of=lambda identity: identity) -> dict:
    """The metrics of a detector that predicts the original objects in images of other ids."""
    with contextlib.redirect_stdout(None):
        metric = CocoMetric(f'{root}/all.json', metric=['bbox', 'segm'])
        metric.dataset_meta = dict(classes=CLASSES)
        original = content()
        for image in original['images']:
            objects = [one for one in original['annotations'] if one['image_id'] == image['id']]
            boxes = torch.tensor([one['bbox'] for one in objects], dtype=torch.float32)
            boxes[:, 2:] += boxes[:, :2]
            masks = [mask_utils.merge(mask_utils.frPyObjects(one['segmentation'], 48, 64)) for one in objects]
            found = dict(
                bboxes=boxes,
                scores=torch.ones(len(objects)),
                labels=torch.tensor([one['category_id'] - 1 for one in objects]),
                masks=torch.as_tensor(np.stack([mask_utils.decode(mask) for mask in masks])),
            )
            metric.process({}, [dict(pred_instances=found, img_id=name_of(image['id']), ori_shape=(48, 64))])
        return metric.evaluate(len(original['images']))


def each(field, make):
    """A change of a field of all annotations."""

    def change(data):
        for index, annotation in enumerate(data['annotations']):
            if (value := make(index)) is None:
                annotation.pop(field)
            else:
                annotation[field] = value

    return change


def floats(data):
    for image in data['images']:
        image.update(id=float(image['id']), width=64.0, height=48.0)
    for annotation in data['annotations']:
        for field in ('id', 'image_id', 'category_id', 'iscrowd'):
            annotation[field] = float(annotation[field])
    for category in data['categories']:
        category['id'] = float(category['id'])


def rooted(data):
    data['categories'] = [dict(id=0, name='cat', supercategory='none'), *data['categories']]


def extra_polygons(data):
    for annotation in data['annotations']:
        annotation['segmentation'] = [[1.0, 2.0], *annotation['segmentation'], [0, 1, 2, 3], [1] * 7]


def unnested(data):
    for annotation in data['annotations']:
        annotation['segmentation'] = annotation['segmentation'][0]


CHANGES = {
    'no iscrowd': each('iscrowd', lambda index: None),
    'no area': each('area', lambda index: None),
    'no id': each('id', lambda index: None),
    'ids from 0': each('id', lambda index: index),
    'texts as ids': each('id', lambda index: f'a1b2-{index}'),
    'numbers in texts as ids': each('id', str),
    'floats': floats,
    'root category': rooted,
    'polygons of few corners': extra_polygons,
    'polygons that are not in a list': unnested,
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_loaded_and_evaluated_as_if_complete(change, tmp_path):
    write(tmp_path / 'good')
    write(tmp_path / 'edited', change)
    good, edited = load(tmp_path / 'good'), load(tmp_path / 'edited')
    assert len(edited) == len(good) == 4
    for ours, theirs in zip(map(edited.get_data_info, range(4)), map(good.get_data_info, range(4))):
        assert ours['instances'] == theirs['instances']
        assert (ours['height'], ours['width'], ours['img_id']) == (48, 64, theirs['img_id'])
    metrics = evaluate(tmp_path / 'edited')
    assert metrics['coco/bbox_mAP'] == metrics['coco/segm_mAP'] == 1.0


@pytest.mark.parametrize(
    'name_of', [lambda number: f'photo {number}', lambda number: 2**63 - number], ids=['text', 'large']
)
def test_ids_of_images_and_categories(name_of, tmp_path):
    """pycocotools can use them as they are."""

    def change(data):
        for image in data['images']:
            image['id'] = name_of(image['id'])
        for category in data['categories']:
            category['id'] = name_of(category['id'])
        for annotation in data['annotations']:
            annotation.update({field: name_of(annotation[field]) for field in ('image_id', 'category_id')})

    write(tmp_path, change)
    check_data(Config(dict(train_dataloader=dict(dataset=dataset(tmp_path)))))
    assert len(load(tmp_path)) == 4
    metrics = evaluate(tmp_path, name_of)
    assert metrics['coco/bbox_mAP'] == metrics['coco/segm_mAP'] == 1.0


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_marks_of_the_byte_order(encoding, tmp_path):
    path = write(tmp_path, lambda data: data['categories'][0].update(name='cät'))
    path.write_text(path.read_text(), encoding=encoding)
    with contextlib.redirect_stdout(None):
        assert [category['name'] for category in CompletedCOCO(path).cats.values()] == ['cät', 'dog']
        assert CompletedCOCO().cats == {}


def test_a_complete_file_is_left_alone():
    data = content()
    data['annotations'][0]['segmentation'] = dict(size=[48, 64], counts=[3000, 72])
    data['annotations'][1].update(iscrowd=True, id=10**12)
    expected = copy.deepcopy(data)
    assert not complete(data)
    assert data == expected
    assert not complete(images := dict(images=data['images'])) and list(images) == ['images']


def test_the_area_is_that_of_the_mask_or_the_box():
    data = content()
    outlines = [[[0, 0, 10, 0, 10, 10]], dict(size=[48, 64], counts=[3000, 72]), None, dict(size=[48, 64], counts=[9])]
    counts = mask_utils.encode(np.asfortranarray(np.eye(48, 64), np.uint8))['counts'].decode()
    outlines.append(dict(size=[48, 64], counts=counts))
    for annotation, outline in zip(data['annotations'], outlines):
        annotation.update(segmentation=outline, area=None)
    complete(data)
    areas = [annotation['area'] for annotation in data['annotations'][:5]]
    assert areas[1:] == [72, 600, 600, 48]
    assert areas[0] == pytest.approx(50, abs=6)


def test_objects_without_outline_are_ignored_where_others_have_one(tmp_path):
    outlines = iter([None, [], {}, [[3, 4]], [[1, 2, 3, 4]]])

    def change(data):
        data['annotations'][0].pop('segmentation')
        for annotation, outline in zip(data['annotations'][1:], outlines):
            annotation['segmentation'] = outline

    write(tmp_path, change)
    found = load(tmp_path)
    ignored = [flag for index in range(4) for flag in found[index]['gt_ignore_flags'].tolist()]
    assert ignored == [True] * 6 + [False] * 2


def test_boxes_without_any_outlines_stay_without():
    data = content()
    for annotation in data['annotations']:
        annotation['segmentation'] = []
    complete(data)
    assert all(annotation['segmentation'] == [] for annotation in data['annotations'])


def test_categories_of_one_name():
    data = content()
    data['categories'] += [dict(id=3, name='bird'), dict(id=4, name='bird'), dict(id=5, name='dog')]
    data['annotations'][0]['category_id'] = 5
    complete(data)
    ids = [category['id'] for category in data['categories']]
    assert ids == [1, 2, 3, 5], 'one of the unused, and all that are used'


@pytest.mark.parametrize('lazy_init', [False, True])
def test_worker_processes_receive_what_was_read(lazy_init, tmp_path):
    """The runner initialises a data set before it makes workers, whose process has the stock reader."""
    write(tmp_path, CHANGES['no area'])
    loader = Runner.build_dataloader(
        dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dataset(tmp_path, lazy_init=lazy_init),
        )
    )
    CocoDataset.COCOAPI = COCO
    received = pickle.loads(pickle.dumps(loader.dataset))
    assert len(received) == 4 and len(received[0]['gt_bboxes_labels']) == 2


def test_the_metric_and_the_data_set_read_with_it(tmp_path):
    """These are the names in mmdet through which files are read."""
    path = write(tmp_path, CHANGES['ids from 0'])
    assert isinstance(CocoMetric(str(path))._coco_api, CompletedCOCO)
    assert CocoDataset.COCOAPI is CompletedCOCO
    assert json.loads(path.read_text())['annotations'][0]['id'] == 0, 'the file stays as it is'
