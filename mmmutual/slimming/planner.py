"""Find the channels of a model that can slim: trace it, group its channels, and check the groups on narrow networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import nn

from mmmutual.layers import Segment, Slimmable
from mmmutual.layers.channels import DIVISOR
from mmmutual.upstream import AnyBatchNorm

from .channel_ids import ChannelIds
from .counting import counting
from .dry_run import ERRORS, Run, smallest_size
from .groups import Groups
from .narrow_trace import NarrowTrace
from .plan import SlimmingPlan
from .plan_parts import ChannelGroup, LayerPlan, ParameterPlan, Part
from .roles import Role, channels_out, is_attention, layers_of, parameters_between
from .rules import rules_of
from .scope import FilterFn, is_teacher, may_get_fewer
from .trace import Trace

CHECKED = (0.625, 0.25)  # widths of the narrow networks that a plan is checked on
Feed = Callable[[Trace], object]


class Planner:
    """A trace of a model, and its channels while they are grouped.

    Args:
        model: A model.
        inside: The modules whose outputs may slim.
        filter_fn: As ``plan_slimming``.
    """

    def __init__(self, model: nn.Module, inside: Collection[nn.Module], filter_fn: FilterFn | None) -> None:
        self.model, self.inside = model, inside
        self.names = {module: name for name, module in model.named_modules()}
        self.roles = layers_of(model)
        self.rules = rules_of(model)
        for layer, role in self.roles.items():
            could_slim = role not in (Role.STOCK, Role.EXTRACTOR) and not isinstance(layer, Slimmable)
            if filter_fn and could_slim and not filter_fn(layer, self.names[layer]):
                self.roles[layer] = Role.STOCK
        self.pieces = {
            layer: pieces
            for rule in self.rules.values()
            for layer, pieces in rule.pieces.items()
            if self.roles.get(layer) in (Role.WRITER, Role.GROUPED)
        }
        self.roles.update(dict.fromkeys(self.pieces, Role.WRITER))
        own = [module for module in self.names if module in inside and not is_teacher(self.names[module])]
        self.sources = parameters_between(self.roles, own)
        kept = {layer for rule in self.rules.values() for layer in rule.kept}
        self.writers = [
            layer
            for layer in self.roles
            if layer in inside
            and layer not in kept
            and not is_teacher(self.names[layer])
            and getattr(layer, 'slim_out', True)
        ]

    def trace(self, feed: Feed) -> None:
        """Trace a run at full width."""
        self.ids = ChannelIds()
        self.full = Trace(self.ids, self.roles, self.writers, self.sources, self.pieces)
        self.full.run(lambda: feed(self.full))
        for rule in self.rules.values():
            for parameter, like in rule.alike.items():
                vector = self.full.channels_behind(like)
                if vector is not None and parameter in self.sources:
                    self.full.outputs.setdefault(parameter, vector)

    def trace_smallest(self, run: Run) -> tuple[Run, int]:
        """Trace a run on the smallest image that the model accepts.

        Args:
            run: ``run_levels`` or ``run_whole``.

        Returns:
            The run, and the image's size in pixels.

        Raises:
            Exception: The error of the model; the former trace is then kept.
        """
        former = vars(self).copy()
        try:
            return run, smallest_size(run, self.model, lambda size: self.trace(lambda trace: run(self.model, size)))
        except ERRORS:
            vars(self).update(former)
            raise

    @property
    def slims_at_end(self) -> bool:
        """Whether the outputs of the traced run have channels that may slim."""
        kept = self.ids.kept()
        return any((roots >= 0).any() and not kept[roots].all() for roots in map(self.ids.find, self.full.ends))

    def settle(self, feed: Feed, keep_ends: str) -> None:
        """Find the groups, and keep channels until narrow networks are right.

        Args:
            feed: The run that was traced.
            keep_ends: Why the outputs of the model do not slim; empty if they may.
        """
        for end in self.full.ends if keep_ends else ():
            self.ids.keep(end, keep_ends)
        self._keep_unread([] if keep_ends else self.full.ends)
        while True:
            before = self.ids.version
            vectors = [*self.full.inputs.values(), *self.full.outputs.values(), *self.full.ends, *self._halves()]
            self.groups = Groups(self.ids, vectors)
            self._require_multiples()
            for members, divisor in zip(self.groups.members, self.groups.divisors):
                if divisor >= len(members):
                    self.ids.keep(members, 'no run of them is long enough to be cut')
            if self.ids.version == before:
                self._check_narrow(feed)
            if self.ids.version == before:
                return

    def _halves(self) -> Iterator[np.ndarray]:
        """The halves of position encodings, for y and x, which slim apart: the first channels alone encode y."""
        for layer, vector in self.full.outputs.items():
            if self.roles.get(layer) is Role.SOURCE:
                yield from np.split(vector, 2)

    def _keep_unread(self, ends: Sequence[np.ndarray]) -> None:
        read = np.zeros(len(self.ids) + 1, bool)  # the last place is that of ALWAYS
        for vector in [*self.full.read, *ends]:
            read[self.ids.find(vector)] = True
        for layer, vector in self.full.outputs.items():
            if isinstance(layer, (nn.Module, nn.Parameter)):
                self.ids.keep(vector[~read[self.ids.find(vector)]], 'no layer reads them, as predictions')

    def _require_multiples(self) -> None:
        """Make runs of channels multiples of 8, of whole groups, and of the numbers in rules and slimmable layers."""
        for layer, vector in self.full.outputs.items():
            if self.roles.get(layer) is not Role.GROUPED:
                self.groups.require(vector, DIVISOR)
        for layer, vector in self.full.inputs.items():
            if isinstance(layer, nn.GroupNorm):
                per_group = layer.num_channels // layer.num_groups
                if any(run.channels % per_group for run in self.groups.runs(vector)):
                    self.ids.keep(vector, 'a group norm needs runs of whole groups')
                self.groups.require(vector, per_group)
        for rule in self.rules.values():
            for layer, multiple in rule.multiples.items():
                if layer in self.full.outputs:
                    self.groups.require(self.full.outputs[layer], multiple)
        for layer, vector in self.full.outputs.items():
            segments: tuple[Segment, ...] = getattr(layer, 'out_segments', ())
            if len(segments) == 1 and isinstance(layer, Slimmable):
                self.groups.require(vector, segments[0].divisor)

    def _check_narrow(self, feed: Feed) -> None:
        """Simulate narrow networks; channels that would be wrong in one are kept."""
        for width in CHECKED:
            version = self.ids.version
            narrow = NarrowTrace(self.full, self.groups.active(width))
            with counting(self.rules, self.groups, self.full, width):
                wrong = narrow.check(partial(feed, narrow))
            for ids, reason in wrong:
                self.ids.keep(ids, reason)
            if wrong and self.ids.version == version:
                for vector in [*self.full.inputs.values(), *self.full.outputs.values()]:
                    self.ids.keep(vector, wrong[0][1])
            if self.ids.version != version:
                return

    def plan(self, scope: str) -> SlimmingPlan:
        """The plan, after ``settle``."""
        layers = tuple(self._layer_plan(layer, role, scope) for layer, role in self.roles.items())
        slimming = {plan.layer for plan in layers if plan.slims_out}
        if scope == 'detector' and any(map(is_attention, slimming)):
            self._check_embeddings()
        unseen = {plan.layer for plan in layers if plan.swapped and plan.role is Role.EXTRACTOR}
        parameters = tuple(self._parameter_plans())
        slimming |= {getattr(plan.module, plan.attribute) for plan in parameters}
        blocks = {
            block: rule.counterpart
            for block, rule in self.rules.items()
            if rule.counterpart
            and (type(block) is rule.counterpart or not isinstance(block, rule.counterpart))
            and not (slimming | unseen).isdisjoint([block, *rule.counted])
        }
        return SlimmingPlan(self.model, scope, layers, self._named_groups(), blocks, parameters)

    def _check_embeddings(self) -> None:
        """Raise ``ValueError`` for embeddings that only a training uses: the channels that they need are unknown."""
        for parameter, owners in self.sources.items():
            module, name = owners[0]
            if isinstance(module, nn.Embedding) and parameter not in self.full.outputs:
                raise ValueError(
                    f'{type(self.model).__name__} cannot be made slimmable with its heads: {self._name(module, name)} '
                    'is used in training only, so it is unknown which channels it has to have. Register a block rule '
                    "that says so (alike), or choose scope='backbone'"
                )

    def _parameter_plans(self) -> Iterator[ParameterPlan]:
        """The parameters between layers that slim, in each module that has them."""
        for parameter, owners in self.sources.items():
            vector = self.full.outputs.get(parameter)
            if vector is not None and self.groups.slims(vector):
                for module, name in owners:
                    yield ParameterPlan(self._name(module, name), module, name, self.groups.segments(vector))

    def _name(self, module: nn.Module, name: str) -> str:
        """The name of a parameter in the model."""
        return f'{self.names[module]}.{name}' if self.names[module] else name

    def _layer_plan(self, layer: nn.Module, role: Role, scope: str) -> LayerPlan:
        name, ran = self.names[layer], layer in self.full.ran
        plan = LayerPlan(name, layer, role, used=ran or not self.full.parameters.isdisjoint(layer.parameters()))
        if role is Role.STOCK:
            if not ran and scope == 'detector' and hasattr(layer, 'weight') and not is_teacher(name):
                raise ValueError(
                    f'{type(self.model).__name__} cannot be made slimmable with its heads: its layer {name} '
                    f'({type(layer).__name__}) runs in training only and needs all of its channels. '
                    "Choose scope='backbone'"
                )
            return replace(
                plan, reason=f'{type(layer).__name__} needs all of its channels' if layer in self.inside else ''
            )
        if not ran and role in (Role.RESIDUAL, Role.SOURCE):
            return plan
        if not ran:
            swapped = may_get_fewer(self.model, name, scope) or (
                isinstance(layer, AnyBatchNorm) and not is_teacher(name)
            )
            outputs = (Segment.full(channels_out(layer)),) if role is Role.WRITER else None
            return replace(plan, swapped=swapped, outputs=outputs)
        taken = self.full.inputs.get(layer)
        given = taken if role in (Role.NORM, Role.EXTRACTOR, Role.RESIDUAL) else self.full.outputs.get(layer)
        plan = replace(
            plan,
            inputs=None if taken is None else self.groups.segments(taken),
            outputs=(Segment.full(channels_out(layer)),) if given is None else self.groups.segments(given),
            reason='' if given is None else self.ids.reason(given),
        )
        if isinstance(layer, Slimmable):
            plan.check_fits()
        is_norm = isinstance(layer, AnyBatchNorm)  # whose statistics differ with the width wherever it stands
        return replace(plan, swapped=role is not Role.EXTRACTOR and (plan.slims or (is_norm and not is_teacher(name))))

    def _named_groups(self) -> tuple[ChannelGroup, ...]:
        leaving = {run.group for end in self.full.ends for run in self.groups.runs(end)}
        groups = [
            ChannelGroup(len(ids), divisor, leaves=index in leaving)
            for index, (ids, divisor) in enumerate(zip(self.groups.members, self.groups.divisors))
        ]
        for layer in self.full.ran:
            role, name = self.roles[layer], self.names[layer]
            taken, given = self.full.inputs.get(layer), self.full.outputs.get(layer)
            if role in (Role.WRITER, Role.SOURCE, Role.RESIDUAL):
                for group, part in self._parts(name, taken if role is Role.RESIDUAL else given):
                    groups[group].writers.append(part)
            reads = role in (Role.WRITER, Role.RESIDUAL)
            for group, part in self._parts(name, taken):
                (groups[group].readers if reads else groups[group].followers).append(part)
        for parameter, owners in self.sources.items():
            for group, part in self._parts(self._name(*owners[0]), self.full.outputs.get(parameter)):
                groups[group].writers.append(part)
        return tuple(group for group in groups if group.divisor < group.channels)

    def _parts(self, name: str, vector: np.ndarray | None) -> Iterator[tuple[int, Part]]:
        """The groups in an input or output of a layer, with their places."""
        start = 0
        for run in self.groups.runs(vector):
            if run.group >= 0:
                yield run.group, Part(name, start, run.channels)
            start += run.channels
