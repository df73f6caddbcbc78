"""Colours for data sets that have more classes than colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def drawable_meta(meta: Mapping | Sequence[Mapping] | None) -> dict:
    """Meta information with which a visualizer can draw every class.

    ``CocoDataset`` has 80 colours, even for a config with more classes. MMDetection's visualizer then fails at the
    first object of a class without a colour.

    Args:
        meta: Meta information of a data set, or of several that are evaluated in one run.

    Returns:
        A copy of the meta information (of the first data set); its ``palette`` is ``'random'`` if it has fewer colours
        than ``classes``.
    """
    if isinstance(meta, Sequence):
        meta = meta[0] if meta else None
    drawable = dict(meta or {})
    palette, classes = drawable.get('palette'), drawable.get('classes') or ()
    if isinstance(palette, list) and not isinstance(classes, str) and len(palette) < len(classes):
        drawable['palette'] = 'random'
    return drawable
