"""The slimming plan of a model: its channel groups, and the inputs and outputs of each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import shorten

from terminaltables import AsciiTable
from torch import nn

from mmmutual.layers import (
    Segment,
    Slimmable,
    SlimParameters,
    check_ratios,
    slim_layer_,
    slim_parameters_,
    unslim_layer_,
    unslim_parameters_,
)
from mmmutual.upstream import AnyBatchNorm

from .block_swap import swap_block_, unswap_block_
from .costs import count_layers
from .dry_run import run_backbone, run_levels, run_whole
from .plan_parts import ChannelGroup, LayerPlan, ParameterPlan
from .roles import Role

LISTED = 8  # reasons that the table shows
LONG = 100  # characters of a reason in the table


@dataclass(frozen=True)
class SlimmingPlan:
    """The slimmable layers of a model, their channels and the groups that slim together; prints as a table.

    Attributes:
        model: The model.
        scope: ``'backbone'`` or ``'detector'``.
        layers: All layers of the model.
        groups: The channels that slim together.
        blocks: Blocks that count channels themselves, with the classes that count the active ones.
        parameters: Parameters between layers that slim.
        applied: The layers, blocks and modules that are swapped now, in order.
    """

    model: nn.Module
    scope: str
    layers: tuple[LayerPlan, ...]
    groups: tuple[ChannelGroup, ...]
    blocks: Mapping[nn.Module, type[nn.Module]]
    parameters: tuple[ParameterPlan, ...] = ()
    applied: list[nn.Module] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def share(self) -> float:
        """Share of the slimmable layers in the multiply-adds of all layers on an image of COCO's size, in [0, 1]."""
        return self._share(plan for plan in self.layers if plan.slims)

    @cached_property
    def multiply_adds(self) -> dict[nn.Module, int]:
        """Multiply-adds of each layer on an image of 800 x 1333 pixels; the model runs for it when they are read."""
        return count_layers(self.model, [plan.layer for plan in self.layers], (run_whole, run_levels, run_backbone))

    @property
    def has_statistics(self) -> bool:
        """Whether batch norms become slimmable, which keep statistics for each width."""
        return any(plan.swapped and isinstance(plan.layer, AnyBatchNorm) for plan in self.layers)

    def main_reason(self, default: str) -> str:
        """The reason that keeps most multiply-adds, or ``default`` if there is none."""
        return next(iter(self.reasons), default)

    @property
    def reasons(self) -> dict[str, float]:
        """Why layers have full outputs, with the share of multiply-adds of the layers that do not slim at all."""
        shares: dict[str, float] = defaultdict(float)
        for plan in self.layers:
            if plan.reason and not plan.slims_out:
                shares[plan.reason] += 0 if plan.slims else self._share([plan])
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def remaining(self, width: float) -> float:
        """Share of the multiply-adds of all layers that remains at a width.

        Args:
            width: Width multiplier in (0, 1].

        Returns:
            The share, in (0, 1]; operations without weights do not count.
        """
        total = sum(self.multiply_adds.values())
        left = sum(self.multiply_adds.get(plan.layer, 0) * plan.remaining(width) for plan in self.layers)
        return left / total if total else 1.0

    def _share(self, layers: Iterable[LayerPlan]) -> float:
        total = sum(self.multiply_adds.values())
        return sum(self.multiply_adds.get(plan.layer, 0) for plan in layers) / max(1, total)

    def apply_(self, widths: Sequence[float] | None) -> None:
        """Make the model slimmable, in place.

        Each layer remains the same object: parameters, names in the checkpoint, training flags, hooks and sharing stay.

        Args:
            widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order. None
                declares no grid of widths, for a part without batch norms of a larger model.

        Raises:
            TypeError: If ``widths`` is not a list of numbers.
            ValueError: If a width is out of range.
        """
        widths = None if widths is None else check_ratios(widths)
        before = len(self.applied)
        segments = {plan.layer: plan.inputs for plan in self.layers}
        try:
            for plan in self.layers:
                if plan.swapped and plan.role is not Role.EXTRACTOR:  # those are blocks
                    inputs = _unless_known(plan.layer, plan.inputs, 'in_segments', 'segments')
                    slim_layer_(plan.layer, widths, inputs, _unless_known(plan.layer, plan.outputs, 'out_segments'))
                    self.applied.append(plan.layer)
            for block, counterpart in self.blocks.items():
                swap_block_(block, counterpart, segments.get(block))
                self.applied.append(block)
            for module, own in self._parameters_by_module().items():
                slim_parameters_(module, own)
                self.applied.append(module)
        except Exception:
            self._undo(before)
            raise

    def _parameters_by_module(self) -> dict[nn.Module, dict[str, tuple[Segment, ...]]]:
        """The segments of the parameters of each module."""
        found: dict[nn.Module, dict[str, tuple[Segment, ...]]] = defaultdict(dict)
        for plan in self.parameters:
            found[plan.module][plan.attribute] = plan.segments
        return found

    def undo_(self) -> None:
        """Undo what ``apply_`` did, nothing else, in place: the network of width 1.0, if it was stock before."""
        self._undo(0)

    def _undo(self, first: int) -> None:
        while len(self.applied) > first:
            module = self.applied.pop()
            if isinstance(module, SlimParameters):
                unslim_parameters_(module)
            elif module in self.blocks:
                unswap_block_(module)
            else:
                unslim_layer_(module)

    def __str__(self) -> str:
        """The table: the slimmable layers of each part, and the reasons for the others."""
        rows = [['part', 'layers that slim', 'groups', 'multiply-adds', 'of which slim']]
        parts: dict[str, list[LayerPlan]] = {}
        for plan in self.layers:
            parts.setdefault(plan.name.split('.')[0], []).append(plan)
        for part, layers in parts.items():
            names = {plan.name for plan in layers}
            groups = sum(any(part.layer in names for part in group.writers) for group in self.groups)
            slimming = sum(plan.slims for plan in layers)
            share = self._share(layers)
            of_it = self._share(plan for plan in layers if plan.slims) / share if share else 0
            rows.append([part, f'{slimming} of {len(layers)}', str(groups), f'{share:.1%}', f'{of_it:.1%}'])
        slimming = sum(plan.slims for plan in self.layers)
        rows.append(['all', f'{slimming} of {len(self.layers)}', str(len(self.groups)), '100.0%', f'{self.share:.1%}'])
        table = AsciiTable(rows, f'{type(self.model).__name__}, scope {self.scope}')
        table.justify_columns = dict.fromkeys(range(1, 5), 'right')
        reasons = [
            f'{share:6.1%} of multiply-adds kept: {shorten(reason, LONG)}'
            for reason, share in list(self.reasons.items())[:LISTED]
        ]
        return '\n'.join([table.table, *reasons])


def _unless_known(layer: nn.Module, segments: tuple[Segment, ...] | None, *sides: str) -> tuple[Segment, ...] | None:
    """The segments for a layer, or None for one that is slimmable already and has segments."""
    known = isinstance(layer, Slimmable) and any(getattr(layer, side, None) is not None for side in sides)
    return None if known else segments
