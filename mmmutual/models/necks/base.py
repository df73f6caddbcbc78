"""The base of slimmable necks: their constructor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from mmmutual.layers import check_ratios
from mmmutual.slimming import plan_neck


class SlimmableNeck(BaseModule):
    """First base of a slimmable neck; the second is mmdet's. It reads the levels of a slimmable backbone.

    By default only the inputs slim: the layers that read the backbone's levels use the weights of the channels that
    arrive. The neck has full outputs, so all sub-networks share the heads, as in the paper.

    Args:
        *args: As mmdet's neck.
        widths: The backbone's grid of widths; needed only if the neck has batch norms.
        slim_out: Whether the outputs slim too; then the heads must be slimmable, as in ``SlimmableDetector`` with
            ``scope='detector'``.
        **kwargs: As mmdet's neck.

    Raises:
        TypeError: If ``widths`` is not a list of numbers.
        ValueError: If ``widths`` is out of range, for a batch norm without them, or for an option that does not
            accept fewer channels.
    """

    def __init__(
        self, *args: Any, widths: Sequence[float] | None = None, slim_out: bool = False, **kwargs: Any
    ) -> None:
        widths = None if widths is None else check_ratios(widths)
        super().__init__(*args, **kwargs)
        plan = plan_neck(self, self.in_channels, slim_out)
        if widths is None and plan.has_statistics:
            raise ValueError(
                f'{type(self).__name__} has batch norms, which keep statistics for each width: pass widths, for '
                'example widths=(1.0, 0.75, 0.5, 0.25)'
            )
        plan.apply_(widths)
