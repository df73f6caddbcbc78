"""The base of layers with a weight between input and output channels: the segments of their two sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from .inputs import check_input
from .segments import Segment, check_segments, take, whole_groups
from .width import Slimmable


class DividedLayer(Slimmable):
    """Mix-in of slimmable convolutions and linear layers.

    The active input channels are those of the input tensor, the active output channels follow the width. The output of
    a grouped layer follows its input: all channels if all arrive, else those of the active groups.

    Attributes:
        slim_out: Whether the output slims; False for full outputs.
        in_segments: The segments of the input, for example after a concatenation. None means unknown: the layer accepts
            all channels or the active part of one run; a grouped layer accepts any whole groups.
        out_segments: The segments of the output.
    """

    groups: int = 1  # of a linear layer
    out_dim: ClassVar[int] = 0  # where the outputs lie in the weight
    in_dim: ClassVar[int] = 1

    @property
    def sizes(self) -> tuple[int, int]:
        """Input and output channels, or features, at full width."""
        if isinstance(self, nn.Linear):
            return self.in_features, self.out_features
        return self.in_channels, self.out_channels

    def set_up(self, slim_out: bool = True) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""
        segment = Segment if slim_out else Segment.full
        self.slim_out = slim_out
        self.in_segments: tuple[Segment, ...] | None = None
        self.out_segments: tuple[Segment, ...] = (segment(self.sizes[1]),)

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set the segments of the input and of the output.

        Args:
            inputs: Segments that make up the input channels. Behind maps of 7 x 7 pixels that were flattened, a linear
                layer has segments in multiples of 8 x 49. A grouped layer has segments of whole groups at every width,
                and the segments of its output follow.
            outputs: Segments that make up the output channels; without effect if ``slim_out`` is False.

        Raises:
            ValueError: If segments do not add up. For a grouped layer, if a segment is not made of whole groups or if
                the output would not follow the input.
        """
        ins, outs = self.in_segments, self.out_segments
        if inputs is not None:
            ins = check_segments(inputs, self.sizes[0], f'the input of {self}')
        if outputs is not None:
            outputs = check_segments(outputs, self.sizes[1], f'the output of {self}')
            outs = outputs if self.slim_out else outs
        groups = self.groups
        if groups > 1 and ins is not None:
            per_in, per_out = (size // groups for size in self.sizes)
            follows = tuple(
                Segment(segment.channels * per_out, segment.divisor * per_out)
                for segment in whole_groups(ins, per_in, f'the input of {self}')
            )
            if outputs is None:
                outs = follows
            elif whole_groups(outs, per_out, f'the output of {self}') != whole_groups(follows, per_out, ''):
                raise ValueError(
                    f'the output of {self} follows its input: outputs must be {list(follows)} for the inputs '
                    f'{list(ins)}, but got {list(outs)}. Leave outputs out'
                )
        self.in_segments, self.out_segments = ins, outs

    def check_channels(self, channels: int) -> None:
        """Validate the channels of an input.

        Args:
            channels: Channels of the input.

        Raises:
            ValueError: If they are neither all nor the active ones, and for a grouped layer without segments, if they
                are not whole groups.
        """
        full, groups = self.sizes[0], self.groups
        if groups == 1 or self.in_segments is not None or channels > full:
            check_input(self, channels, full, self.in_segments)
        elif channels % (full // groups):
            raise ValueError(
                f'the input has {channels} channels, which are not whole groups of {full // groups} channels: {self} '
                f'needs whole groups at width {self.width}'
            )

    def active_parameters(self, channels: int) -> tuple[Tensor, Tensor | None]:
        """The active part of weight and bias: views, unless a side of several segments is cut.

        Args:
            channels: Channels of the input, after ``check_channels``.

        Returns:
            The weight, and the bias or None.
        """
        weight, bias = self.weight, self.bias
        full, outputs = self.sizes
        if self.groups > 1:
            if channels == full:
                return weight, bias
            segments = self.out_segments
            if self.in_segments is None:
                rows = channels * outputs // full
                return weight[:rows], None if bias is None else bias[:rows]
            return take(weight, segments, self.width), None if bias is None else take(bias, segments, self.width)
        weight = take(weight, self.out_segments, self.width, self.out_dim)
        bias = None if bias is None else take(bias, self.out_segments, self.width)
        if channels != full:
            if self.in_segments is None:
                weight = weight.narrow(self.in_dim, 0, channels)
            else:
                weight = take(weight, self.in_segments, self.width, self.in_dim)
        return weight, bias

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
