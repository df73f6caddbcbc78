"""Runs a model on a small image: to see what feeds what, and whether a narrow network is a part of the full one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmmutual.layers import PooledStatistics, SlimBatchNorm2d, use_width

from .input_channels import input_channels

SIZE = 64  # pixels
FIXED = 224  # what those of mmpretrain's backbones take that take one size only
LARGER = (256, 512)  # for detectors that pick many features, or pool often
PROPOSALS = 8  # of each image, in place of the 1000 that COCO configs keep: more of them show nothing new
CHECKPOINTED = ('with_cp', 'use_checkpoint', 'grad_checkpointing', 'gradient_checkpointing')
ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, AssertionError, IndexError)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's kind if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def run_levels(model: nn.Module, size: int) -> tuple[Tensor, ...]:
    """The levels behind the backbone, or the neck if there is one, of a black image.

    Args:
        model: A detector or a backbone.
        size: Height and width of the image in pixels.

    Returns:
        The levels.
    """
    _normalise_by_batch(model)
    return getattr(model, 'extract_feat', model)(_images(model, size))


def run_whole(model: nn.Module, size: int) -> object:
    """All maps that a detector computes of a black image, with gradients.

    Args:
        model: An mmdet detector.
        size: Height and width of the image in pixels.

    Returns:
        What its ``forward(..., mode='tensor')`` gives.
    """
    _normalise_by_batch(model)
    images = _images(model, size).requires_grad_()  # so that frozen layers are in the graph too
    meta = dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size), scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo={**meta, 'batch_input_shape': (size, size), 'img_id': 0})
    box = images.new_tensor([[8.0, 8.0, 40.0, 40.0]])
    sample.proposals = InstanceData(bboxes=box, scores=box[:, 0])
    sample.gt_instances = InstanceData(bboxes=box, labels=box.new_zeros(1).long())
    return model(images, [sample, sample.clone()], mode='tensor')


SIZES = {run_levels: (SIZE, FIXED), run_whole: (SIZE, *LARGER)}


def run_smallest(
    run: Callable[[nn.Module, int], object], model: nn.Module, attempt: Callable[[int], object] | None = None
) -> tuple[int, object]:
    """Run a model on the smallest image that it accepts.

    Args:
        run: :func:`run_levels` or :func:`run_whole`.
        model: A detector or a backbone.
        attempt: Called with each size instead of that run.

    Returns:
        The image's size in pixels, and what the run gives.
    """
    for size in SIZES[run]:
        try:
            return size, attempt(size) if attempt else run(model, size)
        except ERRORS:
            if size == SIZES[run][-1]:
                raise
    raise AssertionError('unreachable')


@contextmanager
def running(model: nn.Module) -> Iterator[None]:
    """Evaluation mode at width 1.0 with gradients for a while; then all is as before."""
    with unchanged(model), use_width(model, 1.0), torch.enable_grad():
        yield


def _images(model: nn.Module, size: int) -> Tensor:
    return next(model.parameters()).new_zeros(2, input_channels(model), size, size)


def _normalise_by_batch(model: nn.Module) -> None:
    """Let batch norms use no statistics and update none."""
    for module in model.modules():
        if isinstance(module, SlimBatchNorm2d):
            module.pooled = PooledStatistics()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, without checkpointed blocks, with few boxes that can be cut out; then as before."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(module, name) for module in model.modules() for name in CHECKPOINTED if vars(module).get(name) is True]
    proposals = getattr(getattr(model, 'rpn_head', None), 'test_cfg', None) or {}
    kept = proposals.get('max_per_img')
    extractors = [module for module in model.modules() if isinstance(module, BaseRoIExtractor)]
    handles = [module.register_forward_pre_hook(_tame_boxes) for module in extractors]
    model.eval()
    for module, name in flags:  # they run without gradients, so nothing inside could be seen
        setattr(module, name, False)
    if kept is not None:
        proposals['max_per_img'] = min(kept, PROPOSALS)
    try:
        yield
    finally:
        if kept is not None:
            proposals['max_per_img'] = kept
        for module, name in flags:
            setattr(module, name, True)
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
            if isinstance(module, SlimBatchNorm2d):
                module.pooled = None


def _tame_boxes(module: nn.Module, args: tuple) -> tuple:
    """Boxes (K, 5) of a model without weights may be inside out, which RoIAlign does not accept."""
    features, boxes, *rest = args
    first, last = boxes[:, 1:3], boxes[:, 3:5]
    corners = torch.cat((torch.minimum(first, last), torch.maximum(first, last)), 1)
    return features, torch.cat((boxes[:, :1], corners.nan_to_num().clamp(0, LARGER[-1])), 1), *rest
