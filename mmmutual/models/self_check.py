"""Whether a narrow network is a part of the full one: it runs on the first channels of what the full one computes.

The full network runs with noise in place of what its layers give, then a narrow one with the part of that noise that
its layers have. Each input of a layer must be the active part of the full network's: so whatever stands between two
layers treats channels one by one, whether it is known or not. A cut, a mean over channels, a shuffle does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmutual.layers import Segment, Slimmable, use_width
from mmmutual.layers.segments import take

from .dataflow import is_unit, tensors_in
from .dry_run import ERRORS, first_line, run_smallest, unchanged

MIXED = 'an operation before it cuts, mixes or reorders channels'
TOLERANCE = 1e-4  # of the largest value
NORMS = (_BatchNorm, nn.GroupNorm)
Run = Callable[[nn.Module, int], object]


class Difference(NamedTuple):
    """An input that is not the active part of the full network's.

    Attributes:
        layer: The layer that gets it; None is the end of the model.
        width: The width at which it does.
        reason: What is wrong with it.
        before: The layers that had run.
    """

    layer: nn.Module | None
    width: float
    reason: str
    before: frozenset[nn.Module]


@torch.no_grad()
def differences(model: nn.Module, widths: Sequence[float], run: Run) -> list[Difference]:
    """Compare the widest and the narrowest of a model's narrow networks with the full one; all if it has group norms.

    Args:
        model: A detector or a backbone, in part slimmable; it is left as it was, statistics included.
        widths: Its widths.
        run: :func:`~.dry_run.run_levels` or :func:`~.dry_run.run_whole`.

    Returns:
        All that differs at the first width at which something does. Nothing for a model that accepts no plain image.
    """
    with unchanged(model), torch.random.fork_rng(devices=[]):
        noisy = not any(parameter.is_meta for parameter in model.parameters())
        try:
            full, size = _full(model, run, noisy)
        except ERRORS:
            try:
                full, size = _full(model, run, noisy=False)
            except ERRORS:
                return []
        narrow = sorted(width for width in widths if width != 1.0)
        if not any(isinstance(layer, nn.GroupNorm) for layer in model.modules()):  # whose whole groups fit some widths
            narrow = [*narrow[:1], *narrow[1:][-1:]]
        for width in narrow:
            found = _Narrow(model, full, width).run(run, size)
            if found:
                return found
    return []


class _Run:
    """A run of a model whose layers call ``before`` with what they get, ``after`` with what they give."""

    def __init__(self, model: nn.Module, width: float) -> None:
        self.model, self.width = model, width
        self.calls: Counter[nn.Module] = Counter()
        self.order: list[nn.Module] = []
        self.open: list[tuple[nn.Module, int]] = []

    def __call__(self, run: Callable[[], object]) -> object:
        torch.manual_seed(0)
        with use_width(self.model, self.width), ExitStack() as stack:
            for layer in self.model.modules():
                if is_unit(layer):
                    for handle in (
                        layer.register_forward_pre_hook(self._enter, with_kwargs=True),
                        layer.register_forward_hook(self._leave),
                    ):
                        stack.callback(handle.remove)
            return run()

    def _enter(self, layer: nn.Module, args: tuple, kwargs: dict) -> None:
        self.open.append((layer, self.calls[layer]))
        self.calls[layer] += 1
        self.order.append(layer)
        self.before(self.open[-1], [value for value in tensors_in((args, kwargs)) if value.is_floating_point()])

    def _leave(self, layer: nn.Module, args: tuple, output: object) -> object:
        return self.after(self.open.pop(), output)


class _Full(_Run):
    """The full network; its layers give noise."""

    def __init__(self, model: nn.Module, noisy: bool) -> None:
        super().__init__(model, 1.0)
        self.noisy = noisy
        self.generator = torch.Generator().manual_seed(0)
        self.inputs: dict[tuple[nn.Module, int], list[Tensor]] = {}
        self.outputs: dict[tuple[nn.Module, int], object] = {}
        self.end: list[Tensor] = []

    def before(self, call: tuple[nn.Module, int], inputs: list[Tensor]) -> None:
        self.inputs[call] = [value.clone() for value in inputs]

    def after(self, call: tuple[nn.Module, int], output: object) -> object:
        if self.noisy and isinstance(call[0], Slimmable):
            output = torch.randn(output.shape, generator=self.generator).to(output)
        self.outputs[call] = _copy(output)
        return output


class _Narrow(_Run):
    """A narrow network; its layers give their part of the same noise."""

    def __init__(self, model: nn.Module, full: _Full, width: float) -> None:
        super().__init__(model, width)
        self.full = full
        self.found: dict[nn.Module | None, Difference] = {}

    def run(self, run: Run, size: int) -> list[Difference]:
        try:
            end = list(tensors_in(self(lambda: run(self.model, size))))
        except ERRORS as error:
            if not self.found:
                rest = self.full.order[len(self.order) :]
                layer = self.open[-1][0] if self.open else next(iter(rest), None)
                self._note(layer, first_line(error))
        else:
            if self.full.noisy and not (
                len(end) == len(self.full.end) and all(map(_is_first_part, end, self.full.end))
            ):
                self._note(None, MIXED)
        return list(self.found.values())

    def before(self, call: tuple[nn.Module, int], inputs: list[Tensor]) -> None:
        layer, expected = call[0], self.full.inputs.get(call)
        if not self.full.noisy:
            return
        if expected is None or len(expected) != len(inputs):
            self._note(layer, 'it would run more often than in the full network')
        elif not isinstance(layer, Slimmable):
            for value, whole in zip(inputs, expected):
                if value.shape != whole.shape:
                    shapes = f'{tuple(value.shape)} instead of {tuple(whole.shape)}'
                    self._note(layer, f'its input would have the shape {shapes}')
                elif not _close(value, whole):
                    self._note(layer, MIXED)
        elif not _close(inputs[0], _part(layer, expected[0], inputs[0], self.width, 'in_segments')):
            self._note(layer, MIXED)

    def after(self, call: tuple[nn.Module, int], output: object) -> object:
        layer, whole = call[0], self.full.outputs.get(call)
        if not self.full.noisy or whole is None:
            return output
        if isinstance(layer, Slimmable):
            part = _part(layer, whole, output, self.width, 'out_segments')
            return output if part is None or part.shape != output.shape else part.clone()
        ours, theirs = [[value.shape for value in tensors_in(each)] for each in (output, whole)]
        return _copy(whole) if ours == theirs else output

    def _note(self, layer: nn.Module | None, reason: str) -> None:
        self.found.setdefault(layer, Difference(layer, self.width, reason, frozenset(self.order)))


def _full(model: nn.Module, run: Run, noisy: bool) -> tuple[_Full, int]:
    """A run of the full network, and the size of the image."""
    made: list[_Full] = []

    def attempt(size: int) -> object:
        made.append(_Full(model, noisy))
        return made[-1](lambda: run(model, size))

    size, end = run_smallest(run, model, attempt)
    made[-1].end = [value.clone() for value in tensors_in(end)]
    return made[-1], size


def _part(layer: nn.Module, whole: Tensor, narrow: Tensor, width: float, side: str) -> Tensor | None:
    """The part of a full input or output that a narrow one has to be, or None if there is no such part."""
    dim = -1 if isinstance(layer, nn.Linear) else 1 if isinstance(layer, NORMS) else -3
    channels = narrow.size(dim)
    if channels >= whole.size(dim):
        return whole if channels == whole.size(dim) else None
    segments: Sequence[Segment] | None = getattr(layer, 'segments' if isinstance(layer, NORMS) else side, None)
    if getattr(layer, 'groups', 1) == 1 and segments and sum(segment.active(width) for segment in segments) == channels:
        return take(whole, segments, width, dim)
    return whole.narrow(dim, 0, channels)


def _is_first_part(narrow: Tensor, whole: Tensor) -> bool:
    """Whether a tensor is another one, or its first part along one dimension."""
    differ = [dim for dim, sizes in enumerate(zip(narrow.shape, whole.shape)) if sizes[0] != sizes[1]]
    if narrow.dim() != whole.dim() or len(differ) > 1 or any(narrow.size(dim) > whole.size(dim) for dim in differ):
        return False
    return _close(narrow, whole.narrow(differ[0], 0, narrow.size(differ[0])) if differ else whole)


def _close(ours: Tensor, theirs: Tensor | None) -> bool:
    if theirs is None or ours.shape != theirs.shape:
        return False
    if not ours.numel():
        return True
    ours, theirs = ours.float(), theirs.float()
    finite = theirs.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * finite, equal_nan=True)


def _copy(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(_copy(item) for item in value) if type(value) in (list, tuple) else value
