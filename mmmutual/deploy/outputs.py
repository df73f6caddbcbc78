"""The outputs of a detector as named tensors: for comparing two detectors and for ONNX."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmmutual.slimming import input_channels
from mmmutual.slimming.dry_run import ERRORS
from mmmutual.tensor_tree import named_tensors

DENSE_HEADS = ('rpn_head', 'bbox_head', 'mask_head')
Size = tuple[int, int]


class DenseOutputs(nn.Module):
    """Backbone, neck and dense head of a detector: the part before boxes are selected.

    ``forward`` accepts a preprocessed image (N, C, H, W) and returns the tensors in the order of ``named(...)``: the
    levels of the neck as ``neck_0``, ``neck_1`` and so on, then the maps of the dense head. For example,
    ``rpn_head_0_2`` is output 0 (the scores) of an RPN on level 2.

    Args:
        detector: An mmdet detector.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features and head maps of an image (N, C, H, W)."""
        return tuple(self.named(image).values())

    def named(self, image: Tensor) -> dict[str, Tensor]:
        """Features and head maps of an image (N, C, H, W), by name."""
        features = self.detector.extract_feat(image)
        outputs = dict(named_tensors(features, 'neck'))
        for part in DENSE_HEADS:
            if getattr(self.detector, part, None) is not None:
                outputs.update(named_tensors(getattr(self.detector, part)(features), part))
        return outputs


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module, size: Size = (128, 160)) -> float:
    """Run two detectors on a random image and compare all their outputs.

    Args:
        first: A detector, in evaluation mode.
        second: Another detector, in evaluation mode.
        size: Height and width of the image in pixels.

    Returns:
        The largest difference of feature and head maps and of predictions. It is relative to the largest value of a
        tensor if that is above 1. 0.0 means that all are equal bit for bit, infinity that shapes or numbers of boxes
        differ.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (input_channels(first), *size), dtype=torch.uint8, generator=generator)
    return tensor_difference(_all_outputs(first, image), _all_outputs(second, image))


def tensor_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest difference of tensors of the same names, as ``largest_difference`` gives it."""
    if ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours):
        return float('inf')
    largest = 0.0
    for name, value in ours.items():
        if torch.equal(value, theirs[name]):
            continue
        difference = (value.double() - theirs[name].double()).abs().max().item()
        difference /= max(1.0, theirs[name].double().abs().max().item())
        largest = max(largest, difference) if difference == difference else float('inf')
    return largest


def _all_outputs(detector: nn.Module, image: Tensor) -> dict[str, Tensor]:
    size = tuple(image.shape[1:])
    meta = dict(img_id=0, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    meta['border'] = np.array([0, size[0], 0, size[1]], dtype=np.float32)  # CenterNet and CornerNet read it: no padding
    batch = dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta)])
    predicted = detector.test_step(copy.deepcopy(batch))[0].pred_instances
    image = detector.data_preprocessor(batch, False)['inputs']
    try:
        outputs = DenseOutputs(detector).named(image)
    except ERRORS:  # a head that needs more than feature maps, for example a transformer's
        outputs = dict(named_tensors(detector.extract_feat(image), 'neck'))
    return {**outputs, **{f'predicted_{name}': value for name, value in predicted.items()}}
