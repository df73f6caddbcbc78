import copy
import json

import cv2
import numpy as np
import pytest
from mmcv.transforms import Resize as MMCVResize
from mmdet.datasets.transforms import FixScaleResize, Resize
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict

from mmmutual.config import nominal_size, scale_pipeline

HEIGHT, WIDTH = 150, 200


def pipeline(*resizes: dict) -> list[dict]:
    return [dict(type='LoadImageFromFile'), *resizes, dict(type='PackDetInputs', meta_keys=('img_id', 'img_shape'))]


def loader(*resizes: dict) -> dict:
    """A data loader's config."""
    dataset = dict(type='CocoDataset', ann_file='a.json', test_mode=True, pipeline=pipeline(*resizes))
    return dict(batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)


def resizes_in(config) -> list[dict]:
    """The transforms between loading and packing, of each pipeline in a config."""
    if isinstance(config, dict):
        found = list(config['pipeline'][1:-1]) if 'pipeline' in config else []
        return found + [item for value in config.values() for item in resizes_in(value)]
    return [item for value in config for item in resizes_in(value)] if isinstance(config, list) else []


@pytest.mark.parametrize(
    ('transform', 'changed'),
    [
        (dict(type='Resize', scale=(1333, 800), keep_ratio=True), dict(scale=(666, 400))),
        (dict(type='Resize', scale=(1001, 601)), dict(scale=(500, 300))),
        (dict(type='Resize', scale=640), dict(scale=320)),
        (dict(type='Resize', scale=1), dict(scale=1)),
        (dict(type='Resize', scale=(600, 1)), dict(scale=(300, 1))),
        (dict(type='Resize', scale_factor=0.5, keep_ratio=True), dict(scale_factor=0.25)),
        (dict(type='Resize', scale_factor=(2.0, 1.5)), dict(scale_factor=(1.0, 0.75))),
        (dict(type='Resize', scale=None, scale_factor=0.5), dict(scale_factor=0.25)),
        (dict(type='Resize', scale=(640, 480), scale_factor=0.5), dict(scale=(320, 240))),  # mmdet takes the scale
        (dict(type='FixScaleResize', scale=(800, 1333), backend='pillow'), dict(scale=(400, 666))),
        (dict(type='mmdet.Resize', scale=(640, 480)), dict(scale=(320, 240))),
        (dict(type=Resize, scale=(640, 480)), dict(scale=(320, 240))),
        (dict(type=MMCVResize, scale=(640, 480)), dict(scale=(320, 240))),
        (dict(type=FixScaleResize, scale=(640, 480)), dict(scale=(320, 240))),
    ],
)
def test_resizes(transform, changed):
    config = loader(transform)
    before = copy.deepcopy(config)
    assert scale_pipeline(config, 0.5) == loader({**transform, **changed})
    assert scale_pipeline(ConfigDict(config), 0.5) == ConfigDict(loader({**transform, **changed}))
    assert scale_pipeline(config['dataset']['pipeline'], 0.5) == pipeline({**transform, **changed})
    assert config == before


def test_pads_of_a_fixed_size_follow_the_resize():
    resize, flip = dict(type='Resize', scale=(640, 640)), dict(type='RandomFlip', prob=0.0)
    pads = dict(type='Pad', size=(640, 480), pad_val=dict(img=114)), dict(type='Pad', size_divisor=32)
    smaller = dict(type='Pad', size=(512, 384), pad_val=dict(img=114)), pads[1]
    scaled = scale_pipeline(loader(resize, *pads, flip), 0.8)
    assert scaled == loader(dict(type='Resize', scale=(512, 512)), *smaller, flip)


def wrap(inner: dict) -> dict:
    return dict(type='RepeatDataset', times=2, dataset=inner)


def concatenate(inner: dict) -> dict:
    other = dict(type='VOCDataset', pipeline=pipeline(dict(type='FixScaleResize', scale=(100, 100))))
    return dict(type='ConcatDataset', datasets=[inner, other])


def augment(inner: dict) -> dict:
    choices = [[dict(type='Resize', scale=side) for side in (100, 200)], [dict(type='RandomFlip', prob=1.0)]]
    return {**inner, 'pipeline': pipeline(dict(type='TestTimeAug', transforms=choices))}


HALF, OTHER = dict(type='Resize', scale=(50, 100)), dict(type='FixScaleResize', scale=(50, 50))
CHOICES = [[dict(type='Resize', scale=50), dict(type='Resize', scale=100)], [dict(type='RandomFlip', prob=1.0)]]


@pytest.mark.parametrize(
    ('wrapper', 'expected'),
    [
        (wrap, [HALF]),
        (concatenate, [HALF, OTHER]),
        (lambda inner: wrap(concatenate(wrap(inner))), [HALF, OTHER]),
        (augment, [dict(type='TestTimeAug', transforms=CHOICES)]),
    ],
)
@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_wrapped_data_sets(kind, wrapper, expected):
    config = loader(dict(type='Resize', scale=(100, 200)))
    config = kind({**config, 'dataset': wrapper(config['dataset'])})
    before = copy.deepcopy(config)
    assert resizes_in(scale_pipeline(config, 0.5)) == expected
    assert config == before


@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_a_pipeline_that_data_sets_share_is_scaled_once(kind):
    shared = [kind(transform) for transform in pipeline(dict(type='Resize', scale=(100, 200)))]
    datasets = [kind(type='CocoDataset', pipeline=shared), kind(type='VOCDataset', pipeline=shared)]
    scaled = scale_pipeline(kind(dataset=kind(type='ConcatDataset', datasets=datasets)), 0.5)
    assert resizes_in(scaled) == [dict(type='Resize', scale=(50, 100))] * 2


@pytest.mark.parametrize('resizes', [[dict(type='Resize', scale=(1333, 800))], []])
def test_scale_one_is_an_equal_copy(resizes):
    config = loader(*resizes)
    scaled = scale_pipeline(config, 1.0)
    assert scaled == config
    scaled['dataset']['pipeline'][0]['type'] = 'LoadEmptyAnnotations'
    assert config == loader(*resizes)


@pytest.mark.parametrize(
    'resizes',
    [[], [dict(type='Pad', size=(9, 9))], [dict(type='RandomResize', scale=(9, 9))], [dict(type='Resize')]],
)
def test_without_a_resize(resizes):
    with pytest.raises(ValueError, match=r'cannot evaluate at scale 0.6: the test pipeline has no Resize. Add dict\('):
        scale_pipeline(loader(*resizes), 0.6)


@pytest.mark.parametrize(
    ('resizes', 'size'),
    [
        ([dict(type='Resize', scale=(1333, 800))], (800, 1333)),
        ([dict(type='mmdet.Resize', scale=640)], (640, 640)),
        ([dict(type=FixScaleResize, scale=[480, 640])], (640, 480)),
        ([dict(type='Pad', size=(7, 9)), dict(type='Resize', scale=(1, 2)), dict(type='Resize', scale=(3, 4))], (2, 1)),
        ([dict(type='Resize', scale=None, scale_factor=0.5), dict(type='Resize', scale=(3, 4))], (4, 3)),
        ([dict(type='Resize', scale_factor=0.5)], None),
        ([dict(type='Pad', size=(640, 640))], None),
        ([], None),
    ],
)
def test_nominal_size(resizes, size):
    config = loader(*resizes)
    assert nominal_size(config) == size
    assert nominal_size(ConfigDict(config)) == size
    config['dataset'] = wrap(config['dataset'])
    assert nominal_size(config) == size


@pytest.fixture
def picture(tmp_path):
    """A data set of one image."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    images = [dict(id=1, file_name='a.png', height=HEIGHT, width=WIDTH)]
    annotations = [dict(id=1, image_id=1, category_id=1, bbox=[10, 20, 40, 50], area=2000, iscrowd=0)]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ('resizes', 'scale', 'size'),
    [
        ([dict(type='Resize', scale=(100, 100), keep_ratio=True)], 1.0, (75, 100)),
        ([dict(type='Resize', scale=(100, 100), keep_ratio=True)], 0.6, (45, 60)),
        ([dict(type='Resize', scale=(100, 60), keep_ratio=False)], 0.5, (30, 50)),
        ([dict(type='FixScaleResize', scale=(100, 80), keep_ratio=True)], 0.4, (30, 40)),
        ([dict(type='Resize', scale_factor=1.0, keep_ratio=True)], 0.4, (60, 80)),
        ([dict(type='Resize', scale=(100, 100), keep_ratio=True), dict(type='Pad', size=(100, 100))], 0.6, (60, 60)),
    ],
)
@pytest.mark.integration
def test_a_data_set_loads_its_images_at_the_scale(resizes, scale, size, picture):
    config = Config(dict(test_dataloader=loader(*resizes)))
    config.test_dataloader.dataset.update(data_root=f'{picture}/', data_prefix=dict(img=''))
    dataset = DATASETS.build(scale_pipeline(config.test_dataloader, scale)['dataset'])
    loaded = dataset[0]
    assert loaded['inputs'].shape == (3, *size)
    assert loaded['data_samples'].img_shape == size
