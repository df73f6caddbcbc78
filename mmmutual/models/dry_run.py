"""Runs a model on a small image: to find the layer that a narrow network does not fit, and to see what feeds what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmmutual.layers import PooledStatistics, SlimBatchNorm2d, use_width

SIZE = 64  # pixels
FIXED = 224  # what those of mmpretrain's backbones take that take one size only
LARGER = (256, 512)  # for detectors that pick many features, or pool often
ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, AssertionError, IndexError)


def check_narrow(model: nn.Module, width: float, run: Callable[[nn.Module], object] | None = None) -> None:
    """Run a model on a small image at a narrow width.

    Args:
        model: A detector or a backbone; it is left as it was, statistics included.
        width: One of the model's widths.
        run: What runs it; by default backbone and neck only, as :func:`run_levels`.

    Raises:
        ValueError: If the narrow network fails where the full one does not, with the name of the layer.
    """
    run = run or run_levels
    last: list[str] = []
    with _unchanged(model):
        handles = [
            layer.register_forward_pre_hook(lambda *_, name=name: last.append(name))
            for name, layer in model.named_modules()
        ]
        try:
            with use_width(model, 1.0):
                try:
                    run(model)
                except ERRORS:
                    return  # it takes no plain image, so there is nothing to compare with
            with use_width(model, width):
                last.clear()
                run(model)
        except ERRORS as error:
            name = last[-1] if last else ''
            raise ValueError(
                f'{type(model).__name__} cannot slim: its layer {name} ({type(model.get_submodule(name)).__name__}) '
                f'does not take the channels of a network of width {width:g} ({first_line(error)})'
            ) from error
        finally:
            for handle in handles:
                handle.remove()


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's kind if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@torch.no_grad()
def run_levels(model: nn.Module) -> tuple[Tensor, ...]:
    """The levels behind the backbone, or the neck if there is one, of a black image."""
    for size in (SIZE, FIXED):
        _normalise_by_batch(model)
        try:
            return getattr(model, 'extract_feat', model)(_images(model, size))
        except ERRORS:
            if size == FIXED:
                raise
    raise AssertionError('unreachable')


def run_whole(model: nn.Module) -> object:
    """All maps that a detector computes of an image that is just large enough, with gradients.

    Args:
        model: An mmdet detector.

    Returns:
        What its ``forward(..., mode='tensor')`` gives.
    """
    for size in (SIZE, *LARGER):
        _normalise_by_batch(model)
        images = _images(model, size).requires_grad_()  # so that frozen layers are in the graph too
        meta = dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size), scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo={**meta, 'batch_input_shape': (size, size), 'img_id': 0})
        box = images.new_tensor([[8.0, 8.0, 40.0, 40.0]])
        sample.proposals = InstanceData(bboxes=box, scores=box[:, 0])
        sample.gt_instances = InstanceData(bboxes=box, labels=box.new_zeros(1).long())
        try:
            return model(images, [sample, sample.clone()], mode='tensor')
        except ERRORS:
            if size == LARGER[-1]:
                raise
    raise AssertionError('unreachable')


@contextmanager
def running(model: nn.Module) -> Iterator[None]:
    """Evaluation mode at width 1.0 with gradients for a while; then all is as before."""
    with _unchanged(model), use_width(model, 1.0), torch.enable_grad():
        yield


def _images(model: nn.Module, size: int) -> Tensor:
    return next(model.parameters()).new_zeros(2, 3, size, size)


def _normalise_by_batch(model: nn.Module) -> None:
    """Let batch norms use no statistics and update none."""
    for module in model.modules():
        if isinstance(module, SlimBatchNorm2d):
            module.pooled = PooledStatistics()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then the modes are restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
            if isinstance(module, SlimBatchNorm2d):
                module.pooled = None
