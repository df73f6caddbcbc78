"""The mask targets of a pass: cropped from masks that passes share, or from resized copies with mmdet's operations."""

from __future__ import annotations

import copy

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict
from torch import Tensor

from mmmutual.engine.shared_masks import Rescaling, shared

from .options import Options
from .table import Row
from .timing import quartiles, ratios, take_turns

SIZE = (600, 1000)  # height, width
IMAGES, NUMBERS, SCALES = 2, (7, 20), (1.0, 0.8, 0.6, 0.4)
BOXES = 128  # the most that mmdet's Mask R-CNN samples in an image
CONFIG = ConfigDict(mask_size=28)
TARGET = 1.0


def measure(options: Options) -> list[Row]:
    """Two images of 1000 x 600 pixels with 7 and with 20 objects each, at each scale of the COCO configs."""
    return [_row(number, scale, options) for number in NUMBERS for scale in SCALES]


def _row(number: int, scale: float, options: Options) -> Row:
    masks, boxes, owners = _draw(number, options.device)
    small = tuple(round(side * scale) for side in SIZE)
    change = Rescaling(SIZE, small, small)
    boxes = [each * scale for each in boxes]
    calls = dict(
        shared=lambda: mask_target(boxes, owners, [_shared(each, change) for each in masks], CONFIG),
        resized=lambda: mask_target(boxes, owners, [_resized(each, change) for each in masks], CONFIG),
    )
    _check(masks, boxes, owners, change, calls['shared']())
    times = take_turns(calls, options.rounds)
    reference = f'resized copies: {quartiles(times["resized"])[1]:.1f} ms'
    what = f'mask targets of {IMAGES} x {number} objects at scale {scale:g}'
    return Row(what, tuple(ratios(times, 'shared', 'resized')), reference, TARGET)


def _draw(number: int, device: str) -> tuple[list[BitmapMasks], list[Tensor], list[Tensor]]:
    """The ellipses of each image, boxes (BOXES, 4) around them as sampled proposals, and the ellipse of each box."""
    rng, (height, width) = np.random.default_rng(0), SIZE
    y, x = np.mgrid[:height, :width]
    masks, boxes, owners = [], [], []
    for _ in range(IMAGES):
        centres = rng.uniform((0, 0), (width, height), (number, 2))
        radii = rng.uniform(20, 160, (number, 2))
        shapes = [
            ((x - across) / wide) ** 2 + ((y - down) / high) ** 2 < 1
            for (across, down), (wide, high) in zip(centres, radii)
        ]
        masks.append(BitmapMasks(np.stack(shapes).astype(np.uint8), height, width))
        owners.append(torch.from_numpy(rng.integers(0, number, BOXES)).to(device))
        corners = np.concatenate([centres - radii, centres + radii], 1)[owners[-1].cpu().numpy()]
        corners = (corners + rng.uniform(-10, 10, corners.shape)).clip(0, [width, height] * 2)
        boxes.append(torch.from_numpy(corners.astype(np.float32)).to(device))
    return masks, boxes, owners


def _shared(masks: BitmapMasks, change: Rescaling) -> BitmapMasks:
    """As an iteration makes them for a pass; the copy to a GPU is included, although passes share it."""
    full = shared(masks)
    return copy.deepcopy(full if change.new == change.old else full.rescaled(change))


def _resized(masks: BitmapMasks, change: Rescaling) -> BitmapMasks:
    """Copies that are resized in each pass."""
    masks = copy.deepcopy(masks)
    return masks if change.new == change.old else masks.resize(change.new, interpolation='area').pad(change.frame)


def _check(
    masks: list[BitmapMasks], boxes: list[Tensor], owners: list[Tensor], change: Rescaling, targets: Tensor
) -> None:
    factor = boxes[0].new_tensor(change.factor * 2)
    expected = mask_target([each / factor for each in boxes], owners, masks, CONFIG)
    if not torch.equal(targets, expected):
        raise RuntimeError(f'the targets at {change.new} are not those of mmdet at full size')
    for each in masks:
        if not np.array_equal(_shared(each, change).masks, _resized(each, change).masks):
            raise RuntimeError(f'the resized masks at {change.new} are not those of mmdet')
