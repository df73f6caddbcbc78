"""A detector's parts run on meta tensors: shapes only, no arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmmutual.upstream import drop_hooks

from . import input_channels

Size = tuple[int, int]  # height, width in pixels
RunPart = Callable[..., object]  # (name of the part, function, *arguments), returns the function's result


def run_on_meta(meta: nn.Module, size: Size, run: RunPart) -> None:
    """Run backbone, neck and heads on one image, at the active width.

    A two-stage detector runs on as many proposals and detections as its ``test_cfg`` allows.

    Args:
        meta: An mmdet detector, or a classifier of mmpretrain, as ``meta_copy`` returns it.
        size: Height and width of the network's input in pixels.
        run: Called for each part as ``run(part, function, *args)``; it has to call the function and return the result.

    Raises:
        ValueError: For a model without a backbone, for a detector with a part that runs neither on feature maps nor on
            RoI features, or with an operator that has no shape-only form.
    """
    if not isinstance(getattr(meta, 'backbone', None), nn.Module):
        raise ValueError(f'cannot count {type(meta).__name__}: it has no backbone')

    @torch.no_grad()
    def checked(part: str, function: Callable, *args: Any) -> Any:
        try:
            return run(part, function, *args)
        except (NotImplementedError, RuntimeError, TypeError) as error:
            kind = type(getattr(meta, part, function)).__name__
            raise ValueError(f'cannot count {part} ({kind}) of {type(meta).__name__}: {error}') from error

    features = checked('backbone', meta.backbone, torch.empty(1, input_channels(meta), *size, device='meta'))
    if getattr(meta, 'neck', None) is not None:
        features = checked('neck', meta.neck, features)
    for part in ('rpn_head', 'bbox_head', 'mask_head', 'head'):
        if getattr(meta, part, None) is not None:
            checked(part, getattr(meta, part), features)
    if hasattr(meta, 'roi_head'):
        _run_roi_head(meta, features[0].size(1), checked)


def _run_roi_head(model: nn.Module, channels: int, run: RunPart) -> None:
    """Run the RoI heads on features of ``channels`` channels, those of a level."""
    roi_head, test_cfg = model.roi_head, model.test_cfg
    rois = {'bbox': test_cfg.rpn.max_per_img, 'mask': test_cfg.rcnn.max_per_img}
    for kind, number in rois.items():
        heads = getattr(roi_head, f'{kind}_head', None)
        if heads is None:
            continue
        extractors = getattr(roi_head, f'{kind}_roi_extractor')
        heads = heads if isinstance(heads, nn.ModuleList) else [heads]
        extractors = extractors if isinstance(extractors, nn.ModuleList) else [extractors] * len(heads)
        for head, extractor in zip(heads, extractors):
            concatenates = getattr(extractor, 'aggregation', None) == 'concat'
            size = (extractor.out_channels if concatenates else channels, *extractor.roi_layers[0].output_size)
            feature = torch.empty(number, *size, device='meta')
            if roi_head.with_shared_head:
                feature = run('shared_head', roi_head.shared_head, feature)
            run(f'{kind}_head', head, feature)


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes but no values; the weights are not duplicated on the way.

    Forward hooks stay with the original: they would see tensors without values.
    """
    memo: dict[int, Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        shape = tensor.detach().to('meta')
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
    copied = copy.deepcopy(model, memo)
    copied.eval()  # some of mmdet's detectors return nothing from train() and eval()
    drop_hooks(copied)
    return copied
