"""Masks of a rescaled batch: they keep place and size, and reach the mask targets."""

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmmutual.engine import rescale_batch
from tests.support.annotated_batches import (
    BIG,
    CORNER,
    SIZES,
    assert_close,
    batch_of,
    bitmaps,
    both_masks,
    centre,
    collate,
    corners,
    draw,
    every_scale,
    extents,
    preprocessor,
    rescaled,
    smaller,
)


@every_scale
@both_masks
@pytest.mark.parametrize('first', [0, 1])
def test_an_image_without_objects(first, kind, scale):
    drawn = [draw(*size, kind, empty=index == first) for index, size in enumerate(SIZES)]
    images, samples = rescaled(preprocessor()(collate(drawn), True), scale)
    assert images.isfinite().all()
    assert [len(sample.gt_instances) for sample in samples] == [3 * (index != first) for index in range(2)]
    nothing = samples[first].gt_instances
    assert nothing.bboxes.shape == (0, 4)
    assert nothing.labels.shape == (0,)
    assert (nothing.masks.height, nothing.masks.width) == images.shape[-2:]


@every_scale
@both_masks
def test_objects_survive_to_the_mask_targets(kind, scale):
    batch = batch_of(kind)
    images, samples = rescaled(batch, scale)
    config = ConfigDict(mask_size=28)
    for before, after in zip(batch['data_samples'], samples):
        assert len(after.gt_instances) == 3
        assert len(after.ignored_instances) == 1
        targets = []
        for instances in (before.gt_instances, after.gt_instances):
            assert instances.bboxes.isfinite().all()
            targets.append(mask_target([instances.bboxes.clone()], [torch.arange(3)], [instances.masks], config))
            assert targets[-1].shape == (3, 28, 28)
            assert targets[-1].isfinite().all()
        differing = (targets[0] != targets[1]).float().mean((1, 2))
        assert differing[BIG] < 0.08
        assert differing[CORNER] < 0.12


@smaller
@pytest.mark.parametrize('poly2mask', [True, False])
def test_a_crowd_region_in_run_lengths(poly2mask, scale):
    size, on = (40, 50), np.zeros((40, 50), dtype=np.uint8)
    on[8:32, 10:45] = 1
    flat = on.ravel(order='F')
    counts = np.diff(np.r_[0, np.nonzero(np.diff(flat))[0] + 1, flat.size]).tolist()
    crowd = dict(bbox=[10, 8, 45, 32], bbox_label=1, ignore_flag=1, mask=dict(size=size, counts=counts))
    thing = dict(bbox=[1, 2, 30, 30], bbox_label=0, ignore_flag=0, mask=[corners(1, 2, 30, 30).tolist()])
    image = dict(img=np.zeros((*size, 3), np.uint8), img_shape=size, ori_shape=size, instances=[thing, crowd])
    loaded = collate([image], LoadAnnotations(with_bbox=True, with_mask=True, poly2mask=poly2mask))
    _, (sample,) = rescaled(preprocessor()(loaded, True), scale)
    assert len(sample.gt_instances) == len(sample.ignored_instances) == 1
    h, w = sample.img_shape
    assert_close(sample.ignored_instances.bboxes[0], np.multiply([10, 8, 45, 32], [w / 50, h / 40] * 2))
    edges = extents(bitmaps(sample.gt_instances.masks)[0]) + [0, 0, 1, 1]
    assert_close(edges, np.multiply([1, 2, 30, 30], [w / 50, h / 40] * 2), 1)
    if poly2mask:  # without it, mmdet drops masks that are not polygons
        edges = extents(bitmaps(sample.ignored_instances.masks)[0]) + [0, 0, 1, 1]
        assert_close(edges, np.multiply([10, 8, 45, 32], [w / 50, h / 40] * 2), 0.6)


@smaller
def test_bitmaps_neither_shift_nor_shrink(scale):
    random = np.random.default_rng(0)
    y, x = np.mgrid[:160, :240] + 0.5
    places = zip(random.uniform(30, 130, 200), random.uniform(30, 210, 200), random.uniform(6, 20, 200))
    discs = np.stack([np.hypot(y - row, x - column) < radius for row, column, radius in places])
    sample = DetDataSample(metainfo=dict(img_shape=(160, 240)))
    sample.gt_instances = InstanceData(masks=BitmapMasks(discs.astype(np.uint8), 160, 240))
    _, (small,) = rescale_batch(torch.zeros(1, 3, 160, 240), [sample], scale)
    after = bitmaps(small.gt_instances.masks)
    shifts = [centre(there) / scale - centre(here) for here, there in zip(discs, after)]
    assert_close(np.mean(shifts, axis=0), [0, 0], 0.05 / scale)  # pixels; with the nearest ones it is 0.5 to 1.5
    assert_close(np.mean(after.sum((1, 2)) / scale**2 / discs.sum((1, 2))), 1, 0.05)


def test_a_pixel_is_on_where_half_of_it_was():
    on = np.random.default_rng(0).random((3, 16, 24)) < 0.5
    sample = DetDataSample(metainfo=dict(img_shape=(16, 24)))
    sample.gt_instances = InstanceData(masks=BitmapMasks(on.astype(np.uint8), 16, 24))
    _, (half,) = rescale_batch(torch.zeros(1, 3, 16, 24), [sample], 0.5)
    assert np.array_equal(bitmaps(half.gt_instances.masks), on.reshape(3, 8, 2, 12, 2).mean((2, 4)) >= 0.5)
