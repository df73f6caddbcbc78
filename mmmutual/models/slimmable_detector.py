"""Any mmdet detector as a config: the stock one, built and made slimmable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from mmmutual.moved_names import renamed_argument
from mmmutual.slimming import check_scope, make_slimmable_


@MODELS.register_module('SlimmableDetector')
@renamed_argument('slim', 'scope')
def build_slimmable_detector(
    detector: str | type[nn.Module], widths: Sequence[float], scope: str = 'backbone', **config: Any
) -> nn.Module:
    """Build a stock detector and make it slimmable.

    In a config, ``SlimmableDetector`` replaces the detector's ``type``; everything else in ``model`` stays as it is::

        model = dict(type='SlimmableDetector', detector='DINO', widths=(1.0, 0.5), backbone=..., ...)

    The result is the stock detector, an object of its class, with its names in the checkpoint.

    Args:
        detector: The detector's ``type``.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        scope: The part that is slimmable: ``'backbone'``, as in the paper, or ``'detector'``: neck and heads too.
        **config: All other arguments of that detector.

    Returns:
        The detector.

    Raises:
        ValueError: As ``make_slimmable_``.
    """
    check_scope(scope)
    model = MODELS.build(dict(type=detector, **config))
    make_slimmable_(model, widths, scope=scope)
    return model
