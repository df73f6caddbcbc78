"""Masks that the passes of an iteration share: crops are exact, anything else is resized at its first use."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmmutual.engine import rescale_batch
from mmmutual.engine import shared_masks as module
from mmmutual.engine.shared_masks import FullSizeMasks, Rescaling, SharedMasks, share_masks_, shared

SIZE, FRAME, NUMBER = (60, 90), (64, 96), 5
CHANGE = Rescaling(SIZE, (24, 37), (32, 64), pad_value=1)
both_scales = pytest.mark.parametrize('change', [None, CHANGE], ids=['full', 'small'])


def drawn() -> BitmapMasks:
    """Padded masks of discs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    discs = [np.hypot(y - rng.uniform(10, 50), x - rng.uniform(10, 80)) < rng.uniform(8, 30) for _ in range(NUMBER)]
    masks = np.stack(discs).astype(np.uint8)
    masks[:, SIZE[0] :] = masks[:, :, SIZE[1] :] = 0
    return BitmapMasks(masks, *FRAME)


def made(masks: BitmapMasks, change: Rescaling | None) -> BitmapMasks:
    """The masks of a scale in mmdet's operations."""
    if change is None:
        return masks
    unpadded = BitmapMasks(masks.masks[:, : change.old[0], : change.old[1]], *change.old)
    return unpadded.resize(change.new, interpolation='area').pad(change.frame, pad_val=change.pad_value)


def boxes(change: Rescaling | None, number: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in the image of a scale, some at its border or without size, and the mask of each."""
    rng = np.random.default_rng(1)
    height, width = SIZE if change is None else change.new
    corners = np.sort(rng.uniform(0, 1, (number, 2, 2)), axis=1).reshape(number, 4)
    corners[0], corners[1] = (0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5)
    return (corners * [width, height, width, height]).astype(np.float32), rng.integers(0, NUMBER - 1, number)


def is_lazy(masks: BitmapMasks) -> bool:
    return isinstance(masks, SharedMasks) and masks._made is None


@both_scales
@pytest.mark.parametrize('binarize', [True, False])
@pytest.mark.parametrize('of', [np.asarray, torch.as_tensor], ids=['numpy', 'torch'])
@pytest.mark.parametrize('inds', [None, [3, 1, 4, 0], slice(1, 5), np.array([True, False, True, True, True])], ids=str)
def test_crops_are_those_of_mmdet_at_full_size(inds, of, binarize, change):
    masks = drawn()
    corners, owners = boxes(change)
    expected, ours = masks, SharedMasks(FullSizeMasks(masks), change)
    if inds is not None:
        expected, ours = masks[inds], ours[inds]
    factor = np.float32((37 / 90, 24 / 60) * 2) if change else 1
    expected = expected.crop_and_resize(corners / factor, (28, 20), owners, binarize=binarize)
    cropped = ours.crop_and_resize(of(corners), (28, 20), of(owners), device='cpu', binarize=binarize)
    assert type(cropped) is BitmapMasks and cropped.masks.dtype == expected.masks.dtype
    assert np.array_equal(cropped.masks, expected.masks) and cropped.masks.any() and not cropped.masks.all()
    assert is_lazy(ours), 'nothing was resized'
    assert len(ours) == len(drawn()[inds] if inds is not None else masks)


def test_no_boxes_and_no_masks():
    corners, owners = boxes(CHANGE, 2)
    for masks, number in ((drawn(), 0), (BitmapMasks([], *FRAME), 2)):
        cropped = SharedMasks(FullSizeMasks(masks), CHANGE).crop_and_resize(corners[:number], (8, 9), owners[:number])
        expected = masks.crop_and_resize(corners[:number], (8, 9), owners[:number])
        assert cropped.masks.shape == expected.masks.shape == (0, 8, 9)


USES = {
    'masks': lambda masks: masks.masks,
    'to_ndarray': lambda masks: masks.to_ndarray(),
    'to_tensor': lambda masks: masks.to_tensor(torch.float32, 'cpu').numpy(),
    'areas': lambda masks: masks.areas,
    'pad': lambda masks: masks.pad((70, 120)).masks,
    'resize': lambda masks: masks.resize((10, 12)).masks,
    'crop': lambda masks: masks.crop(np.array([3, 2, 20, 21])).masks,
    'flip': lambda masks: masks.flip().masks,
    'iter': lambda masks: np.stack(list(masks)),
    'cat': lambda masks: masks.cat([masks, masks]).masks,
    'index': lambda masks: masks[[2, 0]].masks,
    'one': lambda masks: masks[3].masks,
    'boxes': lambda masks: HorizontalBoxes.from_instance_masks(masks).tensor.numpy(),
    'instances': lambda masks: InstanceData(masks=masks)[torch.tensor([4, 0])].masks.masks,
}


@both_scales
@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_anything_else_uses_resized_masks(use, change):
    masks = drawn()
    ours, expected = SharedMasks(FullSizeMasks(masks), change), made(masks, change)
    assert isinstance(ours, BitmapMasks) and is_lazy(ours)
    assert (len(ours), ours.height, ours.width) == (len(expected), expected.height, expected.width)
    assert repr(ours) == f'SharedMasks(num_masks=5, height={expected.height}, width={expected.width})'
    found, wanted = use(ours), use(expected)
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


@both_scales
def test_masks_that_are_changed_are_copies(change):
    masks = drawn()
    before, expected = masks.masks.copy(), made(masks, change).masks.copy()
    ours = SharedMasks(FullSizeMasks(masks), change)
    copied = copy.deepcopy(ours)
    assert copied.full is ours.full
    ours.masks[:] = 1 - ours.masks
    assert np.array_equal(masks.masks, before) and np.array_equal(copied.masks, expected)
    again = copy.deepcopy(ours)
    again.masks[:] = 7
    for part in (ours, ours[[0, 1]]):
        assert np.array_equal(part.masks, 1 - expected[: len(part)])
    corners, owners = boxes(change)
    wanted = BitmapMasks(1 - expected, ours.height, ours.width).crop_and_resize(corners, (14, 14), owners)
    assert np.array_equal(ours.crop_and_resize(corners, (14, 14), owners).masks, wanted.masks)
    ours.masks = expected[:2]
    assert len(ours) == 2 and len(list(ours)) == 2


def test_masks_are_moved_once(monkeypatch):
    full, used, roi_align = FullSizeMasks(drawn()), [], module.roi_align
    monkeypatch.setattr(module, 'roi_align', lambda masks, *args: used.append(len(masks)) or roi_align(masks, *args))
    assert full.on('cpu') is full.on(torch.device('cpu')) and np.shares_memory(full.on('cpu').numpy(), full.masks.masks)
    for change in (None, CHANGE):
        SharedMasks(full, change).crop_and_resize(boxes(change)[0][:3], (14, 14), np.array([4, 1, 4]))
    assert used == [2, 2], 'the masks of boxes only, each of them once'
    assert list(full._moved) == [torch.device('cpu')]


def samples_of(masks) -> list[DetDataSample]:
    corners, _ = boxes(None, NUMBER)
    truth = InstanceData(bboxes=torch.from_numpy(corners), labels=torch.arange(NUMBER), masks=masks)
    return [DetDataSample(metainfo=dict(img_shape=SIZE), gt_instances=truth, ignored_instances=truth.clone())]


@pytest.mark.parametrize('scale', [0.8, 0.4])
def test_passes_share_the_masks_of_a_batch(scale):
    samples = samples_of(drawn())
    assert share_masks_(samples) is samples and share_masks_(['other', *samples])[0] == 'other'
    _, (small,) = rescale_batch(torch.zeros(1, 3, *FRAME), samples, scale, 32)
    for name in ('gt_instances', 'ignored_instances'):
        before, after = samples[0].get(name).masks, small.get(name).masks
        assert is_lazy(before) and is_lazy(after) and after.full is before.full
    _, (smaller,) = rescale_batch(torch.zeros(1, 3, 64, 64), [small], 0.5)
    masks, (height, width) = smaller.gt_instances.masks, small.img_shape
    expected = BitmapMasks(small.gt_instances.masks.masks[:, :height, :width], height, width)
    assert np.array_equal(masks.masks, expected.resize(smaller.img_shape, interpolation='area').masks)


def test_a_batch_that_was_changed_is_rescaled_as_it_is():
    masks = shared(drawn())
    masks.masks[:] = 1
    assert masks.rescaled(CHANGE).masks.all()


@pytest.mark.parametrize('kind', [BitmapMasks, PolygonMasks])
def test_mask_targets_of_a_smaller_scale_are_those_of_full_size(kind):
    corners, _ = boxes(None, NUMBER)
    polygons = [[np.array([x1, y1, x2, y1, (x1 + x2) / 2, y2])] for x1, y1, x2, y2 in corners.astype(np.float64)]
    masks = drawn() if kind is BitmapMasks else PolygonMasks(polygons, *FRAME)
    samples = samples_of(masks)
    config, owners = ConfigDict(mask_size=28), [torch.arange(NUMBER)]
    full = mask_target([samples[0].gt_instances.bboxes], owners, [masks], config)
    _, (small,) = rescale_batch(torch.zeros(1, 3, *FRAME), samples, 0.5)  # 30 x 45 pixels: no rounding
    assert isinstance(small.gt_instances.masks, kind)
    ours = mask_target([small.gt_instances.bboxes], owners, [small.gt_instances.masks], config)
    assert torch.equal(ours, full) and 0.1 < full.mean() < 0.9


@both_scales
@pytest.mark.parametrize(
    'head',
    [
        dict(type='FCNMaskHead', num_convs=1, in_channels=8, conv_out_channels=8, num_classes=3),
        dict(type='MaskPointHead', num_classes=3, in_channels=8, num_fcs=1, fc_channels=8, coarse_pred_each_layer=True),
    ],
    ids=lambda head: head['type'],
)
def test_targets_of_heads(head, change):
    """A head that crops, and one that asks for a tensor."""
    corners, owners = (torch.from_numpy(value) for value in boxes(change, NUMBER))
    config = ConfigDict(mask_size=28, num_points=9)
    head = MODELS.build(dict(head))
    result = InstanceData(pos_priors=corners, pos_bboxes=corners, pos_assigned_gt_inds=owners, priors=corners)
    masks, ours = drawn(), SharedMasks(FullSizeMasks(drawn()), change)
    points = torch.rand(NUMBER, 9, 2, generator=torch.Generator().manual_seed(0))
    if type(head).__name__ == 'FCNMaskHead':
        found = head.get_targets([result], [InstanceData(masks=ours)], config)
        factor = torch.tensor((*change.factor, *change.factor)) if change else 1
        result.pos_priors = corners / factor
        wanted = head.get_targets([result], [InstanceData(masks=masks)], config)
    else:
        rois = torch.cat([torch.zeros(NUMBER, 1), corners], 1)
        found = head.get_targets(rois, points, [result], [InstanceData(masks=ours)], config)
        wanted = head.get_targets(rois, points, [result], [InstanceData(masks=made(masks, change))], config)
    assert torch.equal(found, wanted) and found.any() and not found.all()
    assert is_lazy(ours) == (type(head).__name__ == 'FCNMaskHead')
