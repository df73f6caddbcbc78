"""Which layers of a detector feed which, seen in the graph that autograd records.

From it follows how each layer behind the backbone slims. A layer whose output reaches another layer is hidden: its
output slims, if all that it feeds can take fewer channels. A layer whose output reaches no other is a prediction
(classes, box codes, masks): its output is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmutual.layers import Slimmable, can_slim
from mmmutual.layers.channels import DIVISOR

CUTS = ('Split', 'Slice', 'Narrow', 'Unbind', 'Select')  # autograd nodes that may take some of the channels
OPAQUE = (nn.MultiheadAttention,)  # call no layer of their own


class Dataflow:
    """Records one run of a detector; then tells how the outputs of its layers may slim.

    Args:
        model: A stock detector, in part slimmable perhaps.

    Example:
        >>> flow = Dataflow(model)
        >>> with flow.recording():
        ...     losses_or_predictions = model(images)
        >>> divisors = flow.hidden(candidates)
    """

    def __init__(self, model: nn.Module) -> None:
        opaque = {part for module in model.modules() if isinstance(module, OPAQUE) for part in module.children()}
        self.units = [layer for layer in model.modules() if is_unit(layer) and layer not in opaque]
        self.extractors = [module for module in model.modules() if isinstance(module, BaseRoIExtractor)]
        self._outputs: dict[object, nn.Module] = {}  # by autograd node
        self._inputs: list[tuple[nn.Module, object]] = []
        self._ends: list[object] = []
        self._ran: set[nn.Module] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside, which must be with gradients."""
        handles = [layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.units]
        handles += [module.register_forward_pre_hook(_cut_boxes) for module in self.extractors]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def end(self, outputs: object) -> None:
        """Note what the model gives in the end.

        Args:
            outputs: Tensors, in lists, tuples or dictionaries.
        """
        self._ends = [value.grad_fn for value in tensors_in(outputs) if value.grad_fn is not None]

    def sources(self, layer: nn.Module | None) -> set[nn.Module]:
        """The layers whose outputs reach a layer's input, as far as gradients flow; None is the end of the model."""
        starts = self._ends if layer is None else [node for reader, node in self._inputs if reader is layer]
        return {source for start in starts for part in self._sources(start, True) for source in part}

    def readers(self, sources: Iterable[nn.Module]) -> dict[nn.Module, set[nn.Module]]:
        """The layers that have one of the sources before them, with all of theirs."""
        found = {layer: self.sources(layer) for layer in dict.fromkeys(layer for layer, _ in self._inputs)}
        return {layer: before for layer, before in found.items() if not before.isdisjoint(sources)}

    @property
    def idle(self) -> set[nn.Module]:
        """The layers that take features and did not run."""
        return {layer for layer in self.units if layer not in self._ran and not isinstance(layer, nn.Embedding)}

    def hidden(self, candidates: set[nn.Module], kept: Iterable[nn.Module] = ()) -> dict[nn.Module, int]:
        """The layers whose outputs may slim.

        Layers that are summed, or otherwise meet before another layer, slim alike or not at all.

        Args:
            candidates: Convolutions, transposed convolutions and linear layers; all others stay as they are.
            kept: Those of them that give all of their outputs for another reason.

        Returns:
            Some of the candidates; with each, of what its active outputs have to be a multiple: a group norm behind it
            keeps whole groups.
        """
        groups = _Groups()
        divisors: dict[nn.Module, int] = {}
        complete: set[nn.Module] = set(kept)
        fed: set[nn.Module] = set()
        for layer, node in self._inputs:
            whole, in_part = self._sources(node, concatenated_is_fine=getattr(layer, 'in_segments', None) is not None)
            sources = whole | in_part
            groups.join(sources)
            takes_fewer = layer in candidates or isinstance(layer, Slimmable)
            complete |= in_part if takes_fewer else sources
            complete |= {source for source in sources - candidates if not getattr(source, 'slim_out', False)}
            for source in sources:
                divisors[source] = math.lcm(divisors.get(source, DIVISOR), _per_group(layer))
                if not _is_transparent(layer):
                    fed.add(source)
        found = {}
        for members in groups:
            if complete.isdisjoint(members):
                multiple = math.lcm(*(divisors[member] for member in members))
                found.update({member: multiple for member in members if member in fed & candidates})
        return found

    def _record(self, layer: nn.Module, args: tuple, kwargs: dict, output: object) -> object:
        """Note what a layer takes and gives. It gives a copy, since work in place may hide its node from the graph."""
        self._ran.add(layer)
        for value in tensors_in((args, kwargs)):
            if value.grad_fn is not None:
                self._inputs.append((layer, value.grad_fn))
        if _is_transparent(layer):
            return output
        copied = _copy(output)
        self._outputs.update({value.grad_fn: layer for value in tensors_in(copied) if value.grad_fn is not None})
        return copied

    def _sources(self, start: object, concatenated_is_fine: bool) -> tuple[set[nn.Module], set[nn.Module]]:
        """The layers whose outputs make up an input: as a whole, and as parts of concatenated or cut channels."""
        whole: set[nn.Module] = set()
        in_part: set[nn.Module] = set()
        seen: set[tuple[object, bool]] = set()
        todo = [(start, False)]
        while todo:
            state = todo.pop()
            node, parted = state
            if node is None or state in seen:
                continue
            seen.add(state)
            if node in self._outputs:
                (in_part if parted else whole).add(self._outputs[node])
                continue
            parted = parted or _parts_channels(node, concatenated_is_fine)
            todo += [(before, parted) for before, _ in node.next_functions]
        return whole, in_part


class _Groups:
    """Layers that must slim alike, as disjoint sets."""

    def __init__(self) -> None:
        self._group: dict[nn.Module, list[nn.Module]] = {}

    def join(self, layers: Iterable[nn.Module]) -> None:
        merged: list[nn.Module] = []
        for layer in layers:
            for member in self._group.get(layer, [layer]):
                if self._group.get(member) is not merged:
                    merged.append(member)
                    self._group[member] = merged

    def __iter__(self) -> Iterator[list[nn.Module]]:
        return iter({id(members): members for members in self._group.values()}.values())


def is_unit(module: nn.Module) -> bool:
    """Whether a module is a layer with weights, or with statistics, of its own."""
    own = any(value is not None and value.numel() > 1 for value in module._parameters.values())
    leaf = not any(True for _ in module.children())
    has_kernel = isinstance(module._parameters.get('weight'), nn.Parameter)  # a deformable one has its offsets inside
    return (
        isinstance(module, OPAQUE) or (own and (leaf or has_kernel)) or isinstance(module, (_BatchNorm, nn.GroupNorm))
    )


def _is_transparent(layer: nn.Module) -> bool:
    """Whether a layer gives as many channels as it takes."""
    if isinstance(layer, nn.Conv2d) and can_slim(layer):
        return layer.groups > 1
    return isinstance(layer, (_BatchNorm, nn.GroupNorm)) and can_slim(layer)


def _per_group(layer: nn.Module) -> int:
    """Of what the channels that a layer takes have to be a multiple."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels // layer.num_groups
    return layer.in_channels // layer.groups if isinstance(layer, nn.Conv2d) and layer.groups > 1 else 1


def _parts_channels(node: object, concatenated_is_fine: bool) -> bool:
    """Whether an autograd node concatenates or cuts anything but the samples of a batch or the pixels of a map."""
    name = type(node).__name__
    if name.startswith('Cat'):
        return not concatenated_is_fine and node._saved_dim != 0
    return name.startswith(CUTS) and getattr(node, '_saved_dim', 0) == 1


def _cut_boxes(module: nn.Module, args: tuple) -> tuple:
    """Boxes tell an extractor where to look: they are no features."""
    features, boxes, *rest = args
    return features, boxes.detach(), *rest


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)


def _copy(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(_copy(item) for item in value) if type(value) in (list, tuple) else value
