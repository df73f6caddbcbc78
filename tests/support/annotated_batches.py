"""Batches of two drawn images with boxes, masks and maps of every kind, and how the tests of rescaling compare them."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.datasets.transforms import PackDetInputs
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.dataset import pseudo_collate
from mmengine.structures import BaseDataElement

from mmmutual.engine import rescale_batch

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
