"""Runs of a model on a small image that show the inputs and outputs of its layers; the model does not change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmmutual.layers import Slimmable, use_width
from mmmutual.upstream import module_state

from .input_channels import input_channels

SIZE = 64  # pixels
FIXED = 224  # the size of those backbones of mmpretrain that accept one size only
LARGER = (256, 512)  # for detectors that pick many features, or pool often
PROPOSALS = 8  # of each image, in place of the 1000 that COCO configs keep: more of them show nothing new
LIMIT = 1e3  # of the values between layers
ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
Run = Callable[[nn.Module, int], object]


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's kind if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def run_levels(model: nn.Module, size: int) -> object:
    """The levels behind the backbone, or the neck if there is one, of an image of noise.

    Args:
        model: A detector or a backbone.
        size: Height and width of the image in pixels.

    Returns:
        The levels.
    """
    return getattr(model, 'extract_feat', model)(_images(model, size, size))


def run_backbone(model: nn.Module, size: int) -> object:
    """The levels of a detector's backbone, of an image of noise.

    Args:
        model: A detector.
        size: Height and width of the image in pixels.

    Returns:
        The levels.
    """
    return model.backbone(_images(model, size, size))


def run_whole(model: nn.Module, size: int) -> object:
    """All maps that a detector computes of an image of noise.

    Args:
        model: An mmdet detector.
        size: Height and width of the image in pixels.

    Returns:
        The result of ``forward(..., mode='tensor')``. A detector with a language model reads its text in prediction
        only, so for it the result is that of ``mode='predict'``.
    """
    return run_image(model, size, size)


def run_image(model: nn.Module, height: int, width: int) -> object:
    """All maps that a detector computes of an image of noise.

    Args:
        model: An mmdet detector.
        height: Height of the image in pixels.
        width: Its width in pixels.

    Returns:
        The result of ``forward(..., mode='tensor')``.
    """
    images, size = _images(model, height, width), (height, width)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo={**meta, 'batch_input_shape': size, 'img_id': 0})
    box = images.new_tensor([[8.0, 8.0, 40.0, 40.0]])
    sample.set_metainfo(dict(text='object.', custom_entities=True))
    sample.proposals = InstanceData(bboxes=box, scores=box[:, 0])
    sample.gt_instances = InstanceData(bboxes=box, labels=box.new_zeros(1).long())
    return model(images, [sample], mode='predict' if hasattr(model, 'language_model') else 'tensor')


SIZES: dict[Run, tuple[int, ...]] = {run_backbone: (SIZE, FIXED), run_levels: (SIZE, FIXED), run_whole: (SIZE, *LARGER)}


def smallest_size(run: Run, model: nn.Module, attempt: Callable[[int], object]) -> int:
    """Run a model on the smallest image that it accepts.

    Args:
        run: ``run_backbone``, ``run_levels`` or ``run_whole``.
        model: A detector or a backbone.
        attempt: Called with each size until it raises no error.

    Returns:
        The image's size in pixels.

    Raises:
        Exception: The error at the largest size.
    """
    for size in SIZES[run][:-1]:
        try:
            attempt(size)
        except ERRORS:
            continue
        return size
    attempt(SIZES[run][-1])
    return SIZES[run][-1]


def noise(like: Tensor, *shape: int) -> Tensor:
    """The same random numbers at each call, from 0 to 1.

    Args:
        like: A tensor of the type and on the device that they have.
        *shape: Their shape.

    Returns:
        The numbers.
    """
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(like)


@contextmanager
def untouched(model: nn.Module, width: float = 1.0) -> Iterator[None]:
    """Evaluation mode at a width for a while, with few boxes that can be cut out; then the model is as before.

    All changes by ``eval()`` or the run are undone: attributes, buffers, frozen parameters, random numbers.
    """
    states = [module_state(module) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_inference()]
    python, numbers = random.getstate(), np.random.get_state()
    slimmable = any(isinstance(module, Slimmable) for module in model.modules())
    proposals = getattr(getattr(model, 'rpn_head', None), 'test_cfg', None) or {}
    kept = proposals.get('max_per_img')
    extractors = [module for module in model.modules() if isinstance(module, BaseRoIExtractor)]
    handles = [module.register_forward_pre_hook(_tame_boxes) for module in extractors]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        model.eval()
        if kept is not None:
            proposals['max_per_img'] = min(kept, PROPOSALS)
        with (
            torch.random.fork_rng(devices=devices),
            use_width(model, width) if slimmable else nullcontext(),
            torch.no_grad(),
        ):
            yield
    finally:
        if kept is not None:
            proposals['max_per_img'] = kept
        for handle in handles:
            handle.remove()
        for restored, content in (pair for state in states for pair in state):
            restored.clear()
            restored.update(content)
        for buffer, value in buffers:
            buffer.copy_(value)
        random.setstate(python)
        np.random.set_state(numbers)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)


def bounded(output: Any) -> Any:
    """Bound the output of a layer, so that channels differ whatever the weights are.

    With random weights, the values of a deep model grow without bound; with weights of zero, all are zero.

    Args:
        output: The output of the layer.

    Returns:
        A tensor divided by its largest value if that is above ``LIMIT``, noise for zeros; anything else as it is.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.is_meta or not output.numel():
        return output
    largest = output.abs().max()
    if largest == 0:
        return noise(output, *output.shape)
    if largest <= LIMIT:
        return output
    output = output.nan_to_num()
    return output / output.abs().max()


def _images(model: nn.Module, height: int, width: int) -> Tensor:
    parameter = next(model.parameters(), torch.empty(0))
    return noise(parameter, 1, input_channels(model), height, width)


def _tame_boxes(module: nn.Module, args: tuple) -> tuple:
    """Boxes (K, 5) of a model without weights may be inside out, which RoIAlign does not accept."""
    features, boxes, *rest = args
    first, last = boxes[:, 1:3], boxes[:, 3:5]
    corners = torch.cat((torch.minimum(first, last), torch.maximum(first, last)), 1)
    return features, torch.cat((boxes[:, :1], corners.nan_to_num().clamp(0, LARGER[-1])), 1), *rest
