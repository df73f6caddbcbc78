import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import Resize
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image

from mmmutual.engine import rescale_batch
from mmmutual.engine.rescale import rescale_as
from tests.support.annotated_batches import (
    DIVISOR,
    PAD_VALUE,
    PIXEL,
    SIZES,
    assert_close,
    batch_of,
    bitmaps,
    border,
    both_masks,
    collate,
    corners,
    draw,
    every_scale,
    extents,
    plain,
    preprocessor,
    rescaled,
    smaller,
)


@every_scale
@both_masks
def test_agrees_with_resizing_before_the_batch_is_made(kind, scale):
    images, samples = rescaled(batch_of(kind), scale)
    theirs = batch_of(kind, Resize(scale_factor=scale, keep_ratio=False))
    assert images.shape == theirs['inputs'].shape
    assert (images == PAD_VALUE).equal(theirs['inputs'] == PAD_VALUE)
    assert (images - theirs['inputs']).abs().max() * 60 < 10  # of 255: they do not anti-alias
    for ours, mmdets, (height, width) in zip(samples, theirs['data_samples'], SIZES):
        for key in ('img_shape', 'pad_shape', 'batch_input_shape', 'ori_shape'):
            assert ours.metainfo[key] == mmdets.metainfo[key], key
        relative = mmdets.scale_factor if scale != 1.0 else (1.0, 1.0)
        assert_close(ours.scale_factor, [0.5 * factor for factor in relative], 1e-9)
        assert_close(np.multiply(ours.scale_factor, (2 * width, 2 * height)), ours.img_shape[::-1], 1e-9)
        for name in ('gt_instances', 'ignored_instances'):
            a, b = ours.get(name), mmdets.get(name)
            assert a.labels.equal(b.labels)
            assert_close(a.bboxes, b.bboxes)
            assert isinstance(a.masks, kind)
            if name == 'ignored_instances':
                a.masks, b.masks = (masks.pad(images.shape[-2:]) for masks in (a.masks, b.masks))  # mmdet pads none
            assert (a.masks.height, a.masks.width) == (b.masks.height, b.masks.width) == images.shape[-2:]
            if kind is BitmapMasks:  # mmdet's are those of the nearest pixels
                for ours_on, theirs_on in zip(bitmaps(a.masks), bitmaps(b.masks)):
                    if ours_on.sum() > 1:
                        assert not ((ours_on != theirs_on) & ~border(theirs_on)).any()
            else:
                for parts in zip(a.masks.masks, b.masks.masks):
                    for polygons in zip(*parts, strict=True):
                        assert_close(*polygons)
        labels, expected = ours.gt_sem_seg.sem_seg, mmdets.gt_sem_seg.sem_seg
        assert labels.dtype == expected.dtype
        assert labels.shape == expected.shape
        assert labels.equal(expected)


@every_scale
@both_masks
def test_agrees_to_a_pixel_where_the_ratio_is_kept(kind, scale):
    images, samples = rescaled(batch_of(kind), scale)
    theirs = batch_of(kind, Resize(scale_factor=scale, keep_ratio=True))
    for ours, mmdets in zip(samples, theirs['data_samples']):
        assert_close(ours.img_shape, mmdets.img_shape, 1)
        (h, w), (other_h, other_w) = ours.img_shape, mmdets.img_shape
        for name in ('gt_instances', 'ignored_instances'):
            a, b = ours.get(name), mmdets.get(name)
            assert_close(a.bboxes, b.bboxes, 1)
            assert_close(a.bboxes / torch.tensor([w, h] * 2), b.bboxes / torch.tensor([other_w, other_h] * 2), 1e-5)
            for index, (ours_on, theirs_on) in enumerate(zip(bitmaps(a.masks), bitmaps(b.masks))):
                if name == 'gt_instances' and index == PIXEL:
                    continue
                assert_close(extents(ours_on), extents(theirs_on), 1)
                common = slice(min(h, other_h)), slice(min(w, other_w))
                union = (ours_on[common] | theirs_on[common]).sum()
                assert union > 20
                assert (ours_on[common] & theirs_on[common]).sum() / union > 0.7


@smaller
def test_the_image_is_the_anti_aliased_resize_of_the_unpadded_image(scale):
    batch = batch_of()
    noise = torch.randn_like(batch['inputs'])
    for image, (h, w) in zip(noise, SIZES):
        image[:, h:], image[:, :, w:] = 1e6, 1e6  # what must not bleed in
    images, samples = rescaled({**batch, 'inputs': noise}, scale)
    for image, source, sample, (h, w) in zip(images, noise, samples, SIZES):
        new_h, new_w = sample.img_shape
        for channel, original in zip(image, source):
            expected = Image.fromarray(original[:h, :w].numpy()).resize((new_w, new_h), Image.Resampling.BILINEAR)
            assert_close(channel[:new_h, :new_w], np.asarray(expected), 1e-4)
        assert (image[:, new_h:] == PAD_VALUE).all()
        assert (image[:, :, new_w:] == PAD_VALUE).all()


@every_scale
@pytest.mark.parametrize('divisor', [1, 7, 32])
def test_the_common_size_is_the_smallest_multiple(divisor, scale):
    batch = batch_of(pad_size_divisor=divisor)
    images, samples = rescale_batch(**batch, scale=scale, pad_size_divisor=divisor)
    tight = [max(sides) for sides in zip(*(sample.img_shape for sample in samples))]
    assert list(images.shape[-2:]) == [math.ceil(side / divisor) * divisor for side in tight]
    for sample in samples:
        assert sample.batch_input_shape == images.shape[-2:]
        assert sample.pad_shape == tuple(math.ceil(side / divisor) * divisor for side in sample.img_shape)
        assert sample.gt_sem_seg.sem_seg.shape[-2:] == images.shape[-2:]


def test_scale_one_returns_the_batch():
    batch = batch_of()
    before = plain(batch['data_samples'])
    images, samples = rescaled(batch, 1.0)
    assert images is batch['inputs']
    assert plain(samples) == before


@smaller
def test_padding_of_semantic_maps(scale):
    batch = batch_of(seg_pad_value=9)
    _, samples = rescale_batch(**batch, scale=scale, pad_size_divisor=DIVISOR, seg_pad_value=9)
    for sample in samples:
        h, w = sample.img_shape
        labels = sample.gt_sem_seg.sem_seg[0]
        assert labels[:h, :w].max() < 5
        assert (labels[h:] == 9).all()
        assert (labels[:, w:] == 9).all()


@smaller
@both_masks
def test_ground_truth_that_is_not_padded(kind, scale):
    padded, unpadded = batch_of(kind), batch_of(kind, pad_mask=False, pad_seg=False)
    for sample, other in zip(rescaled(padded, scale)[1], rescaled(unpadded, scale)[1]):
        assert plain(other.gt_instances) == plain(sample.gt_instances)
        assert other.gt_sem_seg.sem_seg.equal(sample.gt_sem_seg.sem_seg)
        assert other.gt_sem_seg.ignore_index == 255  # mmdet's padding drops it


@every_scale
@both_masks
@pytest.mark.parametrize('boxtype2tensor', [True, False])
def test_what_is_rescaled_stays_untouched(boxtype2tensor, kind, scale):
    loaded = collate([draw(*size, kind) for size in SIZES])
    raw = plain(loaded)
    batch = preprocessor(boxtype2tensor=boxtype2tensor)(loaded, True)
    before = plain(batch)
    rescaled(batch, scale)
    assert plain(batch) == before
    assert plain(loaded) == raw


@smaller
def test_box_types_and_proposals(scale):
    tensors, boxes = batch_of(), batch_of(boxtype2tensor=False)
    for other_sample, sample, (height, width) in zip(rescaled(tensors, scale)[1], rescaled(boxes, scale)[1], SIZES):
        (h, w), proposals = sample.img_shape, other_sample.proposals
        for name in ('gt_instances', 'ignored_instances'):
            assert type(sample.get(name).bboxes) is HorizontalBoxes
            assert type(other_sample.get(name).bboxes) is torch.Tensor
            assert_close(sample.get(name).bboxes.tensor, other_sample.get(name).bboxes)
        assert_close(proposals.bboxes[0], [0, 0, w, h])
        assert_close(proposals.bboxes[1], np.multiply([3.5, 4, 9, 21], [w / width, h / height] * 2))
        assert_close(proposals.scores, [0.9, 0.8])


SAMPLE = DetDataSample(metainfo=dict(img_shape=(8, 8)))


def test_maps_that_it_does_not_know():
    """BoxInst's data preprocessor compares colours of neighbouring pixels, at one image size."""
    instances = InstanceData(bboxes=torch.rand(2, 4), pairwise_masks=torch.rand(2, 8, 16, 16))
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64)), gt_instances=instances)
    with pytest.raises(
        ValueError, match=r"boxes and masks of instances, but not \['pairwise_masks'\].*scales=\(1\.0,\)"
    ):
        rescale_batch(torch.rand(1, 3, 64, 64), [sample], 0.5)


@every_scale
@pytest.mark.parametrize(
    ('inputs', 'samples', 'text'),
    [
        ([torch.zeros(3, 8, 8)], [SAMPLE], r'\(N, C, H, W\) tensor and data samples with img_shape, but got list'),
        (dict(sup=torch.zeros(1, 3, 8, 8)), dict(sup=[SAMPLE]), 'but got dict'),
        (torch.zeros(1, 3, 8, 8), [dict(img_shape=(8, 8))], r"but got Tensor and \['dict'\]"),
        (torch.zeros(1, 3, 8, 8), [SAMPLE, BaseDataElement()], "'BaseDataElement', 'DetDataSample'"),
        (torch.zeros(1, 3, 8, 8), SAMPLE, 'but got Tensor and DetDataSample'),
        (torch.zeros(1, 3, 8, 8), None, 'but got Tensor and NoneType'),
    ],
)
def test_wrong_batches(inputs, samples, text, scale):
    with pytest.raises(TypeError, match=text):
        rescale_batch(inputs, samples, scale)


sides = st.integers(1, 90)
fractions = st.floats(0, 1, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(sides, sides, st.lists(st.tuples(*[fractions] * 4), max_size=4)), min_size=1, max_size=3),
    st.floats(0.05, 1),
    st.sampled_from([1, 8, 32]),
)
def test_any_sizes_scales_and_boxes(drawn, scale, divisor):
    samples, high, wide = [], max(h for h, _, _ in drawn), max(w for _, w, _ in drawn)
    for height, width, corner_pairs in drawn:
        relative = np.array(corner_pairs, dtype=np.float32).reshape(-1, 2, 2)
        boxes = np.concatenate([relative.min(1), relative.max(1)], axis=1) * np.float32([width, height] * 2)
        labels = torch.arange(len(boxes))
        masks = PolygonMasks([[corners(*box)] for box in boxes], height, width)
        instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=labels, masks=masks)
        samples.append(DetDataSample(metainfo=dict(img_shape=(height, width)), gt_instances=instances))
    images, after = rescale_batch(torch.ones(len(drawn), 3, high, wide), samples, scale, divisor, PAD_VALUE)
    if scale != 1.0:
        assert not any(side % divisor for side in images.shape[-2:])
    for image, old, new, (height, width, corner_pairs) in zip(images, samples, after, drawn):
        h, w = new.img_shape
        assert 1 <= h <= height
        assert 1 <= w <= width
        assert abs(h - scale * height) <= 1
        assert abs(w - scale * width) <= 1
        assert_close(image[:, :h, :w], 1, 1e-5)
        instances, boxes = new.gt_instances, new.gt_instances.bboxes
        assert len(boxes) == len(instances) == len(corner_pairs)
        assert instances.labels.equal(old.gt_instances.labels)
        assert_close(boxes, old.gt_instances.bboxes.numpy() * np.array([w / width, h / height] * 2))
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([w, h] * 2) + 1e-4).all()
        for polygons, box in zip(instances.masks, boxes):
            assert_close(polygons[0], corners(*box.tolist()))


@pytest.mark.parametrize(
    ('number', 'size', 'stride', 'frame'),
    [
        (1, (64, 64), 32, (32, 64)),  # one value would be left
        (1, (64, 66), 32, (32, 64)),
        (2, (64, 64), 32, (32, 32)),
        (1, (64, 64), 16, (32, 32)),
        (1, (32, 32), 64, (32, 96)),
    ],
)
def test_a_single_image_has_two_values_at_the_deepest_stride(number, size, stride, frame):
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for _ in range(number)]
    images, samples = rescale_batch(torch.ones(number, 3, *size), samples, 0.5, 32, PAD_VALUE, norm_stride=stride)
    assert images.shape[2:] == samples[0].batch_input_shape == frame
    assert samples[0].img_shape == (size[0] // 2, size[1] // 2)
    assert (images[..., size[1] // 2 :] == PAD_VALUE).all()


def test_padding_as_a_data_preprocessor_pads():
    padding = dict(pad_size_divisor=48, pad_value=7.0, seg_pad_value=9, mask_pad_value=1)
    batch = preprocessor(**padding)(collate([draw(*size, BitmapMasks) for size in SIZES]), True)
    ours = rescale_as(preprocessor(**padding), batch['inputs'], batch['data_samples'], 0.5)
    theirs = rescale_batch(batch['inputs'], batch['data_samples'], 0.5, **padding)
    assert torch.equal(ours[0], theirs[0])
    for sample, other in zip(ours[1], theirs[1]):
        height, width = sample.img_shape
        masks = sample.gt_instances.masks.masks
        assert np.array_equal(masks, other.gt_instances.masks.masks)
        assert (masks[:, height:] == 1).all() and (masks[:, :, width:] == 1).all()
        assert (sample.gt_sem_seg.sem_seg[:, height:] == 9).all()
