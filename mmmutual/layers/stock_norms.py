"""Slimmable counterparts of norms without statistics per width, which run the ``forward`` of the stock class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mmdet.models.layers import FrozenBatchNorm2d
from mmdet.models.necks.ssd_neck import L2Norm
from torch import Tensor, nn

from .forward import slimmable_forward
from .frozen import operands_of
from .inputs import check_input
from .segments import Segment, check_segments, take
from .stock_forward import stock_forward
from .width import Slimmable


class StockNorm(Slimmable):
    """First base of a slimmable norm; the second is the stock class. Its tensors (C,) are cut to the active channels.

    Args:
        *args: As the stock class.
        **kwargs: As the stock class.

    Attributes:
        size_name: The attribute of the stock class that counts the channels.
        segments: The segments of the channels; None is one run of channels.
    """

    size_name: ClassVar[str] = 'num_features'

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_up()

    def set_up(self) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""
        self.segments: tuple[Segment, ...] | None = None

    @property
    def channels(self) -> int:
        """Channels at full width."""
        return vars(self)[self.size_name]

    def divide(self, segments: Sequence[Segment]) -> None:
        """Set the segments of the channels, as those of the layer before it.

        Args:
            segments: Segments that make up ``channels``.

        Raises:
            ValueError: If they do not add up.
        """
        self.segments = check_segments(segments, self.channels, str(self))

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Run the stock ``forward`` on the active channels.

        Args:
            x: (N, C, H, W) with C ``channels`` or those of them that are active at the width.

        Returns:
            (N, C, H, W).

        Raises:
            ValueError: For another C.
        """
        return stock_forward(self, operands_of(self, x.shape[1]), x)

    def active_operands(self, key: int) -> dict[str, Tensor]:
        """The active part of the tensors, by name."""
        check_input(self, key, self.channels, self.segments)
        return self.active_tensors(key)

    def active_sizes(self, active: int) -> dict[str, int]:
        """The attributes of the narrow norm that count the channels of an input."""
        return {self.size_name: active}

    def active_tensors(self, active: int) -> dict[str, Tensor]:
        """The active part of the tensors, by name, for an input with some of the channels."""
        segments = self.segments if self.segments is not None else (Segment(self.channels),)
        return {
            name: tensor if active == self.channels else take(tensor, segments, self.width)
            for named in (self.named_parameters, self.named_buffers)
            for name, tensor in named(recurse=False)
            if tensor.dim() and tensor.size(0) == self.channels
        }


class SlimFrozenBatchNorm2d(StockNorm, FrozenBatchNorm2d, nn.Module):
    """mmdet's frozen batch norm: fixed statistics, of which a narrow width has the first. Calibration has no effect."""


class SlimL2Norm(StockNorm, L2Norm, nn.Module):
    """mmdet's L2 norm of SSD, over the active channels."""

    size_name: ClassVar = 'n_dims'
