"""Multiply-adds of a detector at a width and an input size.

"FLOPs" in the tables of this project are multiply-adds, as papers and mmdet print them: one multiplication with its
addition counts once. Convolutions, transposed convolutions and matrix products count; norms, activations, resizing,
RoIAlign and NMS do not. Counting runs on meta tensors: shapes only, no arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmmutual.layers import check_ratios, use_width

Size = tuple[int, int]  # height, width in pixels


def count_multiply_adds(model: nn.Module, size: Size) -> dict[str, int]:
    """Count a detector's multiply-adds for one image, at its active width.

    A two-stage detector counts with as many proposals and detections as its ``test_cfg`` allows, the cost of a busy
    image.

    Args:
        model: An mmdet detector.
        size: Height and width of the network's input in pixels.

    Returns:
        Multiply-adds of each part (``'backbone'``, ``'neck'``, ``'rpn_head'``, ``'bbox_head'``, ``'mask_head'``, as far
        as the detector has them) and their ``'total'``.

    Raises:
        ValueError: If ``size`` is not two positive whole numbers, or for a detector with a part that runs neither on
            feature maps nor on RoI features, or with an operator that has no shape-only form.

    Example:
        >>> counts = count_multiply_adds(detector, (600, 1000))
        >>> print(f"{counts['total'] / 1e9:.1f} G")
        180.6 G
    """
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'size must be height and width in pixels, such as (600, 1000), but got {size!r}')
    meta = _meta_copy(model).eval()
    counts: dict[str, int] = {}

    def count(part: str, function: Callable, *args):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            try:
                result = function(*args)
            except (NotImplementedError, RuntimeError, TypeError) as error:
                raise ValueError(
                    f'cannot count {part} ({type(getattr(meta, part, function)).__name__}) of '
                    f'{type(model).__name__}: {error}'
                ) from error
        counts[part] = counts.get(part, 0) + counter.get_total_flops() // 2
        return result

    features = count('backbone', meta.backbone, torch.empty(1, 3, *size, device='meta'))
    if getattr(meta, 'neck', None) is not None:
        features = count('neck', meta.neck, features)
    for part in ('rpn_head', 'bbox_head', 'mask_head'):
        if getattr(meta, part, None) is not None:
            count(part, getattr(meta, part), features)
    if hasattr(meta, 'roi_head'):
        _count_roi_head(meta, count)
    counts['total'] = sum(counts.values())
    return counts


def count_grid(model: nn.Module, widths: Sequence[float], sizes: Iterable[Size]) -> dict[tuple[float, Size], int]:
    """Total multiply-adds for each width and input size.

    Args:
        model: An mmdet detector with slimmable layers.
        widths: Width multipliers in (0, 1].
        sizes: Heights and widths of the network's input in pixels.

    Returns:
        Multiply-adds under (width, size).
    """
    counts = {}
    for width in check_ratios(widths):
        with use_width(model, width):
            counts.update({(width, size): count_multiply_adds(model, size)['total'] for size in sizes})
    return counts


def _count_roi_head(model: nn.Module, count: Callable) -> None:
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
            feature = torch.empty(number, extractor.out_channels, *extractor.roi_layers[0].output_size, device='meta')
            if roi_head.with_shared_head:
                feature = count('shared_head', roi_head.shared_head, feature)
            count(f'{kind}_head', head, feature)


def _meta_copy(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes but no values; the weights are not duplicated on the way."""
    memo: dict[int, Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        shape = tensor.detach().to('meta')
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
    return copy.deepcopy(model, memo)
