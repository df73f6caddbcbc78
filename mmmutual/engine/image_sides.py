"""The image sides that a model needs: for levels that match, and for batch norms with more than one input value."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from mmmutual.slimming import input_channels
from mmmutual.slimming.meta_run import meta_copy
from mmmutual.upstream import AnyBatchNorm

LARGEST = 128  # the largest divisor that is tried
SMALLEST_IMAGE = 96  # pixels; smaller images have no deep levels
ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, AssertionError, IndexError)


def fit_padding(model: nn.Module) -> int:
    """Let a data preprocessor pad images to the sides that the model needs.

    Necks that concatenate levels, as those of RTMDet and YOLOX, need sides that are multiples of their largest stride.
    The sizes in the config satisfy this at full scale only. If the model fails at multiples of the current
    ``pad_size_divisor`` of the data preprocessor and runs at multiples of a larger one, the divisor is increased.

    Args:
        model: A detector or a classifier, without a wrapper. Only shapes are computed.

    Returns:
        The stride in pixels of the deepest batch norm in backbone and neck; 1 if there is none.
    """
    if isinstance(model, BaseTTAModel):
        model = model.module
    preprocessor = getattr(model, 'data_preprocessor', None)
    present = getattr(preprocessor, 'pad_size_divisor', None)
    if (
        preprocessor is None
        or not isinstance(present, int)
        or not isinstance(getattr(model, 'backbone', None), nn.Module)
    ):
        return 1
    try:
        meta = meta_copy(model)
    except ERRORS:
        return 1  # a model that cannot be copied
    for divisor in _divisors(present):
        number = max(3, math.ceil(SMALLEST_IMAGE / divisor)) | 1  # odd: not a multiple of a larger power of two
        side = divisor * number
        try:
            stride = _stride_of_norms(meta, (side, side + 2 * divisor))
        except ERRORS:
            continue
        if divisor != present:
            print_log(
                f'{type(model).__name__} needs image sides that are multiples of {divisor}: images are padded to them',
                logger='current',
                level=logging.INFO,
            )
            preprocessor.pad_size_divisor = divisor
        return stride
    return 1  # unknown: the model needs more than shapes


def _divisors(present: int) -> Iterator[int]:
    """The current divisor, then larger ones."""
    yield present
    powers = (2**exponent for exponent in range(1, LARGEST.bit_length()))
    yield from sorted({math.lcm(present, power) for power in powers} - {present})


@torch.no_grad()
def _stride_of_norms(meta: nn.Module, size: tuple[int, int]) -> int:
    """Run backbone and neck on an image of size (height, width); return the largest stride of a batch norm's input."""
    heights: list[int] = []

    def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].dim() == 4:
            heights.append(args[0].size(2))

    parts = [part for part in (meta.backbone, getattr(meta, 'neck', None)) if part is not None]
    norms = [layer for part in parts for layer in part.modules() if isinstance(layer, AnyBatchNorm)]
    handles = [layer.register_forward_pre_hook(note) for layer in norms]
    try:
        features = torch.empty(1, input_channels(meta), *size, device='meta')
        for part in parts:
            features = part(features)
    finally:
        for handle in handles:
            handle.remove()
    strides = (2 ** round(math.log2(size[0] / height)) for height in heights)
    return max(strides, default=1)
