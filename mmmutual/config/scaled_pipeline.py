"""Apply an input scale at test time: the test pipeline resizes the original image to another size."""

from __future__ import annotations

import copy
from typing import Any

from mmmutual.config_tree import nested_dicts, type_name

RESIZES = {'Resize': 'scale', 'FixScaleResize': 'scale', 'ResizeEdge': 'scale'}
FOLLOWING = {'Pad': 'size', 'CenterCrop': 'crop_size'}  # sizes that change with the resize before them


def scale_pipeline(config: Any, scale: float) -> Any:
    """Scale the image size in a data loader's config.

    Args:
        config: Config of a data loader, a data set or a pipeline, including wrapped data sets.
        scale: Factor above 0 and at most 1.

    Returns:
        A copy in which each ``Resize``, ``FixScaleResize`` and ``ResizeEdge`` has its ``scale`` or ``scale_factor``,
        each ``Pad`` to a fixed size its ``size``, and each ``CenterCrop`` its ``crop_size``, multiplied by ``scale``.

    Raises:
        ValueError: If the scale is below 1 and the pipeline has no resize.
    """
    scaled = copy.deepcopy(config)
    if scale == 1.0:
        return scaled
    nodes = {id(node): node for node in nested_dicts(scaled)}  # data sets may share one pipeline
    if not any([_scale_transform(node, scale) for node in nodes.values()]):
        raise ValueError(
            f'cannot evaluate at scale {scale}: the test pipeline has no Resize. Add '
            "dict(type='Resize', scale=(width, height), keep_ratio=True) to it"
        )
    return scaled


def nominal_size(config: Any) -> tuple[int, int] | None:
    """Nominal test size (height, width) in pixels: of a ``CenterCrop``, or of the first resize; None without these."""
    for sizes in (dict(CenterCrop='crop_size'), RESIZES):
        for node in nested_dicts(config):
            size = node.get(sizes.get(type_name(node)))
            if size is not None:
                width, height = (size, size) if isinstance(size, int) else size
                return height, width
    return None


def _scale_transform(node: dict, scale: float) -> bool:
    """Scale one transform in place; return whether it is a resize."""
    kind = type_name(node)
    key = {**RESIZES, **FOLLOWING}.get(kind)
    if key is None:
        return False
    size = node.get(key)
    if size is not None:
        node[key] = _scaled(size, scale)
    elif 'scale_factor' in node:
        factor = node['scale_factor']
        node['scale_factor'] = tuple(f * scale for f in factor) if isinstance(factor, (tuple, list)) else factor * scale
    else:
        return False
    return kind in RESIZES


def _scaled(size: int | tuple[int, int], scale: float) -> int | tuple[int, ...]:
    if isinstance(size, int):
        return max(1, round(size * scale))
    return tuple(max(1, round(side * scale)) for side in size)
