import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image

from mmmutual.engine import rescale_batch
from mmmutual.engine.rescale import rescale_as

SIZES = ((97, 131), (120, 80))  # height, width
SCALES = (1.0, 0.8, 0.6, 0.4, 0.25)
DIVISOR, PAD_VALUE = 32, -7.0
BIG, PIXEL, CORNER, CROWD = range(4)  # the objects of each image

every_scale = pytest.mark.parametrize('scale', SCALES)
smaller = pytest.mark.parametrize('scale', SCALES[1:])
both_masks = pytest.mark.parametrize('kind', [PolygonMasks, BitmapMasks])


def draw(height: int, width: int, kind=PolygonMasks, empty: bool = False) -> dict:
    """A loaded image: a smooth gradient, a big octagon, one pixel, a rectangle to the corner and a crowd."""
    y, x = np.mgrid[:height, :width]
    gradient = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 20) * np.cos(y / 25)], axis=-1)
    h, w = height, width
    boxes = [(5, 8, 0.7 * w, 0.8 * h), (20, 30, 21, 31), (0.5 * w, 0.6 * h, w, h), (0.3 * w, 2, 0.6 * w, 0.3 * h)]
    masks = PolygonMasks([[octagon(*box) if i == BIG else corners(*box)] for i, box in enumerate(boxes)], h, w)
    masks.masks[CORNER].append(corners(2, h - 9, 12, h - 2))  # an object of two parts
    keep = np.arange(0 if empty else len(boxes))
    masks = masks[keep]
    return dict(
        img=gradient.astype(np.uint8),
        img_shape=(h, w),
        ori_shape=(2 * h, 2 * w),  # the pipeline has halved it
        scale_factor=(0.5, 0.5),
        gt_bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32)[keep].reshape(-1, 4)),
        gt_bboxes_labels=np.arange(4)[keep],
        gt_masks=masks if kind is PolygonMasks else BitmapMasks(masks.to_ndarray().astype(np.uint8), h, w),
        gt_ignore_flags=(np.arange(4) == CROWD)[keep],
        gt_seg_map=((x // 9 + y // 11) % 5).astype(np.uint8),
        ignore_index=255,
        proposals=np.array([[0, 0, w, h], [3.5, 4, 9, 21]], dtype=np.float32),
        proposals_scores=np.array([0.9, 0.8], dtype=np.float32),
    )


def corners(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)


def octagon(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    angles = (np.arange(8) + 0.5) * math.pi / 4
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) / np.cos(math.pi / 8)
    return (((points + 1) / 2) * (x2 - x1, y2 - y1) + (x1, y1)).ravel()


def preprocessor(**options) -> DetDataPreprocessor:
    defaults = dict(pad_size_divisor=DIVISOR, pad_value=PAD_VALUE, pad_mask=True, pad_seg=True)
    return DetDataPreprocessor(mean=[120.0] * 3, std=[60.0] * 3, **{**defaults, **options})


def collate(images: list[dict], *transforms) -> dict:
    """A loader's batch."""
    return pseudo_collate([Compose([*transforms, PackDetInputs()])(copy.deepcopy(image)) for image in images])


def batch_of(kind=PolygonMasks, *transforms, **options) -> dict:
    """A preprocessed batch of two images of different sizes."""
    return preprocessor(**options)(collate([draw(*size, kind) for size in SIZES], *transforms), True)


def rescaled(batch: dict, scale: float) -> tuple[torch.Tensor, list[DetDataSample]]:
    return rescale_batch(batch['inputs'], batch['data_samples'], scale, DIVISOR, PAD_VALUE)


def bitmaps(masks) -> np.ndarray:
    return masks.to_ndarray().astype(bool)


def border(bitmap: np.ndarray) -> np.ndarray:
    """Pixels that have both values among themselves and their eight neighbours."""
    on = torch.from_numpy(bitmap)[None].float()
    return (F.max_pool2d(on, 3, 1, 1) != -F.max_pool2d(-on, 3, 1, 1))[0].numpy()


def extents(bitmap: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(bitmap.any(1))[0], np.nonzero(bitmap.any(0))[0]
    return np.array([columns[0], rows[0], columns[-1], rows[-1]])


def centre(bitmap: np.ndarray) -> np.ndarray:
    return np.argwhere(bitmap).mean(0) + 0.5


def plain(value):
    """Nested lists and dicts of all content, ready to compare."""
    if isinstance(value, BaseDataElement):
        return dict(type=type(value).__name__, meta=plain(value.metainfo), data=plain(dict(value.items())))
    if isinstance(value, (BitmapMasks, PolygonMasks)):
        return [type(value).__name__, value.height, value.width, plain(value.masks)]
    if isinstance(value, HorizontalBoxes):
        return ['HorizontalBoxes', plain(value.tensor)]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def assert_close(actual, expected, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


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
            assert type(a.masks) is kind
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
    if poly2mask:  # without it, mmdet drops what is no polygon
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
    for plain_sample, sample, (height, width) in zip(rescaled(tensors, scale)[1], rescaled(boxes, scale)[1], SIZES):
        (h, w), proposals = sample.img_shape, plain_sample.proposals
        for name in ('gt_instances', 'ignored_instances'):
            assert type(sample.get(name).bboxes) is HorizontalBoxes
            assert type(plain_sample.get(name).bboxes) is torch.Tensor
            assert_close(sample.get(name).bboxes.tensor, plain_sample.get(name).bboxes)
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
