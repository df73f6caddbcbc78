"""A narrow detector as a config, for channels that cannot be set on a stock class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from mmmutual.layers import check_ratio
from mmmutual.models import build_slimmable_detector
from mmmutual.moved_names import renamed_argument

from .narrow import narrow_


@MODELS.register_module('NarrowDetector')
@renamed_argument('slim', 'scope')
def build_narrow_detector(
    detector: str | type[nn.Module],
    width: float,
    widths: Sequence[float] | None = None,
    scope: str = 'backbone',
    **config: Any,
) -> nn.Module:
    """Build a slimmable detector and cut it to one width, for the weights that an export has written.

    Args:
        detector: The detector's ``type``.
        width: Width multiplier in (0, 1].
        widths: As ``SlimmableDetector``; None if the parts in ``config`` are slimmable themselves.
        scope: As ``SlimmableDetector``.
        **config: All other arguments of the detector.

    Returns:
        The detector with stock layers, which have as many channels as those of the sub-network.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: As ``narrow_`` and ``SlimmableDetector``.
    """
    width = check_ratio(width)
    if widths is None:
        model = MODELS.build(dict(type=detector, **config))
    else:
        model = build_slimmable_detector(detector, widths, scope, **config)
    narrow_(model, width, trained=False)
    return model
