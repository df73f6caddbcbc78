"""The base of slimmable backbones: their constructor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from mmmutual.layers import check_ratios
from mmmutual.slimming import plan_slimming


class SlimmableBackbone(BaseModule):
    """First base of a slimmable backbone; the second is a stock one, whose layers then run on their first channels.

    At width 1.0 it is the stock backbone bit for bit, with its parameter names.

    Args:
        *args: As the stock backbone.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        **kwargs: As the stock backbone. Layers that cannot slim, such as your own classes, have full outputs.

    Raises:
        TypeError: If ``widths`` is not a list of numbers.
        ValueError: If ``widths`` is out of range, or if no layer of the backbone can be slimmable.
    """

    def __init__(self, *args: Any, widths: Sequence[float], **kwargs: Any) -> None:
        widths = check_ratios(widths)
        super().__init__(*args, **kwargs)
        self.widths = widths
        plan_slimming(self).apply_(widths)
