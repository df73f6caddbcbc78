"""Multiply-adds of each layer on an image of COCO's size, from what runs on two small images show."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .dry_run import PROPOSALS

PIXELS = 800 * 1333  # of a test image in mmdet's COCO configs
STEP = 64  # pixels that the second image has more on each side


def nominal_multiply_adds(
    model: nn.Module, names: Mapping[nn.Module, str], size: int, small: Mapping, large: Mapping
) -> dict[nn.Module, int]:
    """Multiply-adds of the layers for an image of 800 x 1333 pixels.

    They grow with the image's area, or do not depend on it, as those of queries. Layers that run on RoIs count as often
    as ``test_cfg`` allows proposals and, for masks, detections.

    Args:
        model: A detector.
        names: The layers' names.
        size: Height and width of the small image in pixels.
        small: What the layers need for it.
        large: What they need for one with ``STEP`` pixels more on each side.

    Returns:
        The numbers.
    """
    area = (size + STEP) ** 2 - size**2
    found = {}
    for layer, count in small.items():
        growth = (large.get(layer, count) - count) / area
        found[layer] = round(count + growth * (PIXELS - size**2)) if growth else count * _rois(model, names[layer])
    return found


def _rois(model: nn.Module, name: str) -> int:
    """On how many RoIs a layer of a RoI head runs, for each one that it has run on."""
    if not name.startswith('roi_head') or getattr(model, 'rpn_head', None) is None:
        return 1
    test_cfg = getattr(model, 'test_cfg', None) or {}
    stage = test_cfg.get('rcnn' if 'mask' in name else 'rpn') or {}
    return max(1, stage.get('max_per_img', PROPOSALS) // PROPOSALS)
