"""The base of layers with a weight between input and output channels: the segments of their two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .inputs import check_input
from .segments import Segment, check_segments, in_groups, take, whole_groups
from .width import Slimmable


class DividedLayer(Slimmable):
    """Mix-in of slimmable convolutions and linear layers.

    The active input channels are those of the input tensor, the active output channels follow the width. The output of
    a grouped layer follows its input: all channels if all arrive, else those of the active groups. If the segments cut
    each group alike, all groups stay, and a part of each is active.

    Attributes:
        sides: The tensors whose channels slim, by name, with a letter for each dimension: ``i`` for the input channels,
            ``o`` for the output channels, ``-`` for anything else. Tensors of parts have names such as ``part.weight``.
            A grouped kernel has the inputs of one group, which do not slim.
        slim_out: Whether the output slims; False for full outputs.
        in_segments: The segments of the input, for example after a concatenation. None means unknown: the layer accepts
            all channels or the active part of one run; a grouped layer accepts any whole groups.
        out_segments: The segments of the output.
        inside_groups: Whether the segments cut each group of a grouped layer alike.
    """

    groups: int = 1  # of a linear layer
    sides: ClassVar[Mapping[str, str]] = {'weight': 'oi', 'bias': 'o'}

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
        self.inside_groups = False
        self.in_segments: tuple[Segment, ...] | None = None
        self.out_segments: tuple[Segment, ...] = (segment(self.sizes[1]),)

    def divide(self, inputs: Sequence[Segment] | None = None, outputs: Sequence[Segment] | None = None) -> None:
        """Set the segments of the input and of the output.

        Args:
            inputs: Segments that make up the input channels. Behind maps of 7 x 7 pixels that were flattened, a linear
                layer has segments in multiples of 8 x 49. A grouped layer has segments of whole groups at every width,
                and the segments of its output follow; or segments that are alike in each group, as on its output.
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
        inside = groups > 1 and outputs is not None and ins is not None and self._cut_groups(ins, outs)
        if groups > 1 and ins is not None and not inside:
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
        self.in_segments, self.out_segments, self.inside_groups = ins, outs, inside

    def _cut_groups(self, *sides: Sequence[Segment]) -> bool:
        """Whether the segments of both sides are alike in each group, and cut groups."""
        parts = [in_groups(segments, self.groups) for segments in sides]
        alike = all(set(groups) == {groups[0]} for groups in parts)
        return alike and any(not segment.is_full for groups in parts for segment in groups[0])

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
        weight, bias = self._active_part('weight', self.weight, channels), self.bias
        return weight, None if bias is None else self._active_part('bias', bias, channels)

    def active_operands(self, key: Any) -> Any:
        """Check the channels of an input; return the active weight and bias."""
        self.check_channels(key)
        return self.active_parameters(key)

    def active_tensors(self, channels: int) -> dict[str, Tensor]:
        """The active part of the tensors in ``sides``, as far as the layer has them.

        Args:
            channels: Channels of the input, after ``check_channels``.

        Returns:
            By name: the tensor itself if all of it is active, a view if each cut side is one segment, else a copy.
        """
        found = {}
        for name in self.sides:
            tensor: Any = self
            for part in name.split('.'):
                tensor = getattr(tensor, part, None)
            if tensor is not None:
                found[name] = self._active_part(name, tensor, channels)
        return found

    def _active_part(self, name: str, tensor: Tensor, channels: int) -> Tensor:
        for dim, side in enumerate(self.sides[name]):
            if side == 'o':
                tensor = self._active_outputs(tensor, dim, channels)
            elif side == 'i' and channels != self.sizes[0]:
                tensor = self._active_inputs(tensor, dim, channels)
        return tensor

    def _active_inputs(self, tensor: Tensor, dim: int, channels: int) -> Tensor:
        size, segments = tensor.size(dim), self.in_segments
        if size == self.sizes[0]:
            return tensor.narrow(dim, 0, channels) if segments is None else take(tensor, segments, self.width, dim)
        if self.inside_groups and segments is not None:
            return take(tensor, in_groups(segments, self.groups)[0], self.width, dim)
        return tensor

    def _active_outputs(self, tensor: Tensor, dim: int, channels: int) -> Tensor:
        full, outputs = self.sizes
        follows = self.groups > 1 and not self.inside_groups
        if follows and channels == full:
            return tensor
        if follows and self.in_segments is None:
            return tensor.narrow(dim, 0, channels * outputs // full)
        return take(tensor, self.out_segments, self.width, dim)

    def active_groups(self, channels: int) -> int:
        """The number of active groups.

        Args:
            channels: Channels of the input, after ``check_channels``.

        Returns:
            All groups if the segments cut each of them.
        """
        follows = self.groups > 1 and not self.inside_groups
        return self.groups * channels // self.sizes[0] if follows else self.groups

    def active_sizes(self, channels: int) -> dict[str, Any]:
        """The attributes of the narrow stock layer that count its channels.

        Args:
            channels: Channels of the input, after ``check_channels``.

        Returns:
            Those that the layer has, for example ``in_channels``, ``out_channels`` and ``groups``.
        """
        groups = self.active_groups(channels)
        if self.groups > 1 and not self.inside_groups:
            outputs = self.sizes[1] // self.groups * groups
        else:
            outputs = sum(segment.active(self.width) for segment in self.out_segments)
        found = dict(in_channels=channels, out_channels=outputs, groups=groups)
        found.update(in_features=channels, out_features=outputs)
        return {name: value for name, value in found.items() if name in vars(self)}

    def narrow_class(self, channels: int) -> type[nn.Module] | None:
        """The class of the narrow layer of the width, if it is not the stock class.

        Args:
            channels: Channels of the input, after ``check_channels``.

        Returns:
            The class, or None for the stock class.
        """
        return None

    def extra_repr(self) -> str:
        """Add ``slim_out`` where it is not the default."""
        return super().extra_repr() + ('' if self.slim_out else ', slim_out=False')
