"""Multiply-adds of a detector at a width and an input size.

A multiply-add is a multiplication with its addition, counted once; papers and mmdet call it a ``FLOP``. Convolutions,
transposed convolutions and matrix products, also those in attention, count; norms, activations, resizing, sampling,
RoIAlign and NMS do not. Counting runs on meta tensors: shapes only, no arithmetic. Detectors with a transformer run on
an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmmutual.layers import check_ratios, use_width
from mmmutual.slimming.dry_run import run_image
from mmmutual.slimming.meta_run import Size, meta_copy, run_on_meta

from .whole_run import as_it_is, needs_values


def count_multiply_adds(model: nn.Module, size: Size) -> dict[str, int]:
    """Count the multiply-adds of a detector or a classifier for one image, at its active width.

    A two-stage detector counts with as many proposals and detections as its ``test_cfg`` allows, the cost of a busy
    image.

    Args:
        model: A detector of mmdet, or an image classifier of mmpretrain.
        size: Height and width of the network's input in pixels. If the model cannot run at this size, it is padded as
            the data preprocessor pads.

    Returns:
        Multiply-adds of each part (``'backbone'``, ``'neck'``, ``'rpn_head'``, ``'bbox_head'``, ``'mask_head'``,
        ``'head'``, ``'encoder'``, ``'decoder'``, as far as the model has them) and their ``'total'``.

    Raises:
        ValueError: If ``size`` is not two positive whole numbers, or for a detector with a part that runs neither on
            feature maps nor on RoI features, or with an operator that has no shape-only form.

    Examples:
        >>> counts = count_multiply_adds(model, (64, 96))
        >>> print(f"{counts['total'] / 1e6:.1f} M")
        75.1 M
    """
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'size must be height and width in pixels, such as (600, 1000), but got {size!r}')
    if needs_values(model):
        return _counted_in_a_run(model, size)
    counts: dict[str, int] = {}

    def count(part: str, function: Callable, *args: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = function(*args)
        counts[part] = counts.get(part, 0) + counter.get_total_flops() // 2
        return result

    meta = meta_copy(model)
    try:
        run_on_meta(meta, size, count)
    except ValueError:
        padded = _padded(model, size)
        if padded == tuple(size):
            raise
        counts.clear()
        run_on_meta(meta, padded, count)
    counts['total'] = sum(counts.values())
    return counts


def _counted_in_a_run(model: nn.Module, size: Size) -> dict[str, int]:
    """The multiply-adds of each part of a detector on an image of noise."""
    with as_it_is(model), FlopCounterMode(display=False) as counter:
        run_image(model, *size)
    found, root = counter.get_flop_counts(), type(model).__name__
    counts = {name: sum(found.get(f'{root}.{name}', {}).values()) // 2 for name, _ in model.named_children()}
    counts = {name: count for name, count in counts.items() if count}
    counts['total'] = counter.get_total_flops() // 2
    return counts


def _padded(model: nn.Module, size: Size) -> Size:
    divisor = getattr(getattr(model, 'data_preprocessor', None), 'pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


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
