"""Rescale a batch on the device: images, boxes, masks and meta data together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.image import rescale_size
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from .shared_masks import Rescaling, Size, shared


def rescale_batch(
    inputs: Tensor,
    data_samples: Sequence[BaseDataElement],
    scale: float,
    pad_size_divisor: int = 1,
    pad_value: float = 0.0,
    seg_pad_value: int = 255,
    mask_pad_value: int = 0,
    norm_stride: int = 1,
) -> tuple[Tensor, list[BaseDataElement]]:
    """Resize copies of a preprocessed batch and of its ground truth.

    Each image is cropped from the padded batch, resized as by mmdet's ``Resize(scale_factor=scale)`` (bilinear with
    anti-aliasing), and padded again to the new common size of the batch. Bitmap masks become ``SharedMasks``: a pixel
    is set if at least half of its area was, and mask heads that crop do so at full size.

    Args:
        inputs: (N, C, H, W) images, normalised and padded at the bottom and on the right.
        data_samples: Their ground truth, N data samples of mmdet or mmpretrain, with ``img_shape`` (h, w) of each
            unpadded image.
        scale: Factor in (0, 1]; 1 returns the batch as it is.
        pad_size_divisor: Height and width of the result are multiples of it.
        pad_value: Value of padded pixels.
        seg_pad_value: Value of padded pixels of a semantic map.
        mask_pad_value: Value of padded pixels of a bitmap mask.
        norm_stride: Stride in pixels of the deepest batch norm. A single image that would have one value there, which a
            batch norm cannot train on, is padded until it has two.

    Returns:
        Images (N, C, H', W') and their ground truth.

    Raises:
        TypeError: If ``inputs`` is not a tensor or ``data_samples`` are not data samples.
        ValueError: If instances have maps other than masks.
    """
    listed = isinstance(data_samples, Sequence)
    if not (isinstance(inputs, Tensor) and listed and all(_is_sample(item) for item in data_samples)):
        kinds = sorted({type(item).__name__ for item in data_samples}) if listed else type(data_samples).__name__
        raise TypeError(
            'rescaling needs a batch of DetDataPreprocessor, that is, a (N, C, H, W) tensor and data samples with '
            f'img_shape, but got {type(inputs).__name__} and {kinds}'
        )
    if scale == 1.0:
        return inputs, list(data_samples)
    old_sizes = [(int(sample.img_shape[0]), int(sample.img_shape[1])) for sample in data_samples]
    new_sizes = [_rescaled(size, scale) for size in old_sizes]
    frame = _padded((max(h for h, _ in new_sizes), max(w for _, w in new_sizes)), pad_size_divisor)
    if len(inputs) == 1 and max(frame) <= norm_stride:
        frame = _padded((frame[0], norm_stride + 1), pad_size_divisor)
    images = inputs.new_full((*inputs.shape[:2], *frame), pad_value)
    for image, source, (h, w), new in zip(images, inputs, old_sizes, new_sizes):
        image[:, : new[0], : new[1]] = F.interpolate(
            source[None, :, :h, :w], size=new, mode='bilinear', antialias=True
        )[0]
    samples = [
        _rescale_sample(sample, Rescaling(old, new, frame, mask_pad_value), pad_size_divisor, seg_pad_value)
        for sample, old, new in zip(data_samples, old_sizes, new_sizes)
    ]
    return images, samples


def rescale_as(
    preprocessor: nn.Module, inputs: Tensor, data_samples: Sequence[BaseDataElement], scale: float, norm_stride: int = 1
) -> tuple[Tensor, list[BaseDataElement]]:
    """As ``rescale_batch``, with the padding of a data preprocessor.

    Args:
        preprocessor: The data preprocessor of the batch; settings that it does not define have their defaults.
        inputs: As ``rescale_batch``.
        data_samples: As ``rescale_batch``.
        scale: As ``rescale_batch``.
        norm_stride: As ``rescale_batch``.

    Returns:
        As ``rescale_batch``.

    Raises:
        TypeError: As ``rescale_batch``.
        ValueError: As ``rescale_batch``.
    """
    names = ('pad_size_divisor', 'pad_value', 'seg_pad_value', 'mask_pad_value')
    padding = {name: getattr(preprocessor, name) for name in names if hasattr(preprocessor, name)}
    return rescale_batch(inputs, data_samples, scale, norm_stride=norm_stride, **padding)


def _is_sample(item: object) -> bool:
    return isinstance(item, BaseDataElement) and 'img_shape' in item.metainfo


def _rescaled(size: Size, scale: float) -> Size:
    width, height = rescale_size((size[1], size[0]), scale)
    return max(height, 1), max(width, 1)


def _padded(size: Size, divisor: int) -> Size:
    return math.ceil(size[0] / divisor) * divisor, math.ceil(size[1] / divisor) * divisor


def _rescale_sample(sample: BaseDataElement, change: Rescaling, divisor: int, seg_pad_value: int) -> BaseDataElement:
    """A copy of the ground truth of one image, in pixels of the new size."""
    before = sample.metainfo.get('scale_factor', (1.0, 1.0))
    rescaled = sample.new()
    rescaled.set_metainfo(
        dict(
            img_shape=change.new,
            pad_shape=_padded(change.new, divisor),
            batch_input_shape=change.frame,
            scale_factor=(before[0] * change.factor[0], before[1] * change.factor[1]),
        )
    )
    for name, value in sample.items():
        if isinstance(value, InstanceData):
            setattr(rescaled, name, _rescale_instances(value, change))
        elif isinstance(value, PixelData):
            setattr(rescaled, name, _rescale_pixels(value, change, seg_pad_value))
    return rescaled


def _rescale_instances(instances: InstanceData, change: Rescaling) -> InstanceData:
    maps = [name for name, value in instances.items() if isinstance(value, Tensor) and value.dim() > 2]
    if maps:
        raise ValueError(
            f'rescaling supports the boxes and masks of instances, but not {maps}, which the data preprocessor made '
            'for one image size: train with scales=(1.0,)'
        )
    rescaled = instances.new()
    if 'bboxes' in instances:
        rescaled.bboxes = boxes = instances.bboxes.clone()
        if isinstance(boxes, BaseBoxes):
            boxes.rescale_(change.factor)
        else:  # by numbers, since the CPU would wait for the copy of a tensor to a GPU
            boxes[:, 0::2] *= change.factor[0]
            boxes[:, 1::2] *= change.factor[1]
    if 'masks' in instances:
        rescaled.masks = _rescale_masks(instances.masks, change)
    return rescaled


def _rescale_masks(masks: BitmapMasks | PolygonMasks, change: Rescaling) -> BitmapMasks | PolygonMasks:
    """Bitmaps are resized when they are used; polygons have few numbers."""
    if isinstance(masks, BitmapMasks):
        return shared(masks).rescaled(change)
    return PolygonMasks(masks.masks, *change.old).resize(change.new).pad(change.frame)


def _rescale_pixels(pixels: PixelData, change: Rescaling, pad_value: int) -> PixelData:
    """Nearest-neighbour resize of label maps (1, H, W)."""
    old, new, frame = change.old, change.new, change.frame
    rescaled = PixelData(metainfo=pixels.metainfo)
    pad = (0, frame[1] - new[1], 0, frame[0] - new[0])
    for name, value in pixels.items():
        labels = value[..., : old[0], : old[1]]
        labels = F.interpolate(labels[None].to(torch.float64), size=new, mode='nearest')[0].to(value.dtype)
        setattr(rescaled, name, F.pad(labels, pad, value=pad_value))
    return rescaled
