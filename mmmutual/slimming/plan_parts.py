"""The parts of a slimming plan: channel groups, and what becomes of each layer and parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from mmmutual.layers import Segment

from .roles import Role


class Part(NamedTuple):
    """The place of a group's channels in the output of a writer, or in the input of another layer.

    Attributes:
        layer: The layer's name.
        start: The first of the channels.
        channels: Their number: more than the group has if each occurs several times.
    """

    layer: str
    start: int
    channels: int


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that slim together.

    Attributes:
        channels: Their number at full width; whole groups of a grouped convolution count as one.
        divisor: The number of active channels is a multiple of it.
        writers: The layers that write them.
        followers: The norms, grouped convolutions and RoI extractors that they pass.
        readers: The layers that read them.
        leaves: Whether they are among the outputs of the model, as those of a backbone that is planned by itself.
    """

    channels: int
    divisor: int
    writers: list[Part] = field(default_factory=list)
    followers: list[Part] = field(default_factory=list)
    readers: list[Part] = field(default_factory=list)
    leaves: bool = False


@dataclass(frozen=True)
class LayerPlan:
    """The slimming of a layer.

    Attributes:
        name: Its name in the model.
        layer: The layer.
        role: Its role: a writer of channels, a norm and so on.
        inputs: The segments of its input; None if they are unknown, because it runs in training only.
        outputs: The segments of its output.
        used: Whether the run that the plan followed called it or used its weight. In scope ``'backbone'`` that run ends
            before the heads.
        swapped: Whether it becomes slimmable.
        reason: Why it has full outputs; empty if its output slims, or if full outputs are intended.
    """

    name: str
    layer: nn.Module
    role: Role
    inputs: tuple[Segment, ...] | None = None
    outputs: tuple[Segment, ...] | None = None
    used: bool = True
    swapped: bool = False
    reason: str = ''

    @property
    def slims_in(self) -> bool:
        """Whether its input has fewer channels in a narrow network."""
        return _slims(self.inputs)

    @property
    def slims_out(self) -> bool:
        """Whether its output has fewer channels in a narrow network."""
        return _slims(self.outputs)

    @property
    def slims(self) -> bool:
        """Whether its input or output has fewer channels in a narrow network."""
        return self.slims_in or self.slims_out

    def remaining(self, width: float) -> float:
        """The share of its multiply-adds that remains at a width, in (0, 1]."""
        outputs = _active_share(self.outputs, width)
        if self.role is Role.GROUPED:  # it has fewer groups, each of its full size
            return outputs
        return outputs * _active_share(self.inputs, width)

    def check_fits(self) -> None:
        """Raise ``ValueError`` if the layer is slimmable already, but slims in another way than the model needs."""
        for side, planned in (('in_segments', self.inputs), ('out_segments', self.outputs)):
            own = getattr(self.layer, side, None)
            needs = _slims(planned) or (side == 'out_segments' and bool(self.reason) and _slims(own))
            if own is not None and planned is not None and needs and own != planned:
                raise ValueError(
                    f'{self.name} ({type(self.layer).__name__}) is slimmable already, with the {side} '
                    f'{_sizes(own)}, but this model needs {_sizes(planned)}: build it stock, and make the entire model '
                    'slimmable'
                )


class ParameterPlan(NamedTuple):
    """A parameter between layers that slims, in one of the modules that have it.

    Attributes:
        name: Its name in the model.
        module: The module.
        attribute: Its name in the module.
        segments: The segments of its last dimension.
    """

    name: str
    module: nn.Module
    attribute: str
    segments: tuple[Segment, ...]


def _slims(segments: Sequence[Segment] | None) -> bool:
    return segments is not None and not all(segment.is_full for segment in segments)


def _active_share(segments: Sequence[Segment] | None, width: float) -> float:
    if segments is None:
        return 1.0
    return sum(segment.active(width) for segment in segments) / sum(segment.channels for segment in segments)


def _sizes(segments: Sequence[Segment]) -> str:
    return ', '.join(f'{segment.channels} in multiples of {segment.divisor}' for segment in segments)
