"""Follow channels through a narrow network that the stock model simulates.

Each layer receives its full-width input, and only the active channels of its output continue. So the operations between
two layers process the narrow network, and no layer is changed. A narrow network is right if the active channels of each
layer's full-width input arrive there, in their order and with their values. Then no operation mixes channels, not even
one that torch does not show, as one in C++ or in a ``torch.autograd.Function``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmutual.tensor_tree import tensors_in

from .channel_ids import ALWAYS, compact, ids_of, rows, set_ids, spread
from .dry_run import ERRORS, first_line
from .roles import Role, channel_dim, features, is_attention
from .trace import Trace

NONE = np.empty(0, np.int64)
TOLERANCE = 1e-4  # of the largest value; operations on fewer channels may round otherwise


class NarrowTrace(Trace):
    """One run of a narrow network.

    Args:
        full: The run at full width.
        active: For each id that stands for a set whether its channels are active.
    """

    def __init__(self, full: Trace, active: np.ndarray) -> None:
        super().__init__(full.ids, full.layers, full.writers, full.sources)
        self.full, self.active = full, active
        self.outputs, self.inputs = dict(full.outputs), dict(full.inputs)
        self._kept = np.append(full.ids.kept(), True)  # the last place is that of ALWAYS
        self.calls: Counter[nn.Module] = Counter()
        self.wrong: list[tuple[np.ndarray, str]] = []

    def check(self, function: Callable[[], object]) -> list[tuple[np.ndarray, str]]:
        """Run the narrow network.

        Args:
            function: Runs the model.

        Returns:
            Ids that must not slim, with the reason; none if the narrow network is right.
        """
        try:
            self.run(function)
        except ERRORS as error:
            if not self.wrong:
                reason = f'an operation behind them fails in a narrow network ({first_line(error)})'
                self.wrong += [(ids, reason) for ids in [NONE, *self.recent, *self._last_read()]]
        else:
            self._check_results()
            if self.calls != Counter({layer: len(calls) for layer, calls in self.full.values.items()}):
                self.wrong.append((NONE, 'a narrow network would run other layers'))
            elif len(self.results) != len(self.full.results):
                self.wrong.append((NONE, 'a narrow network would give another number of outputs'))
        return self.wrong

    def _last_read(self) -> list[np.ndarray]:
        """The input of the last layer, if the last operation used kept channels: it may count these."""
        kept = all(self._kept[self.ids.find(ids)].all() for ids in self.recent)
        read = self.full.inputs.get(next(reversed(self.ran), None)) if kept else None
        return [] if read is None else [read]

    def take(self, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Check the input that arrives, and replace it by the full-width input."""
        calls, self.calls[layer] = self.full.values[layer], self.calls[layer] + 1
        values = [*tensors_in((args, kwargs))]
        if self.calls[layer] > len(calls) or len(calls[self.calls[layer] - 1]) != len(values):
            raise RuntimeError(f'{type(layer).__name__} runs differently from full width')
        whole = {id(value): full for value, full in zip(values, calls[self.calls[layer] - 1])}
        taken = [] if self.layers[layer] is Role.STOCK else features(layer, args, kwargs)
        for value in taken:
            self._check(layer, value, whole[id(value)], channel_dim(layer, kwargs))
        for value in values if self.layers[layer] is not Role.SOURCE else ():  # it needs their size alone
            if not any(value is other for other in taken) and not _is_close(value, whole[id(value)]):
                self._note(layer, self.full.inputs.get(layer))
        return _replaced(args, whole), {name: _replaced(value, whole) for name, value in kwargs.items()}

    def give(self, layer: nn.Module, output: object, dim: int) -> object:
        """Pass on the active channels of the output."""
        vector = self.outputs.get(layer)
        if self.layers[layer] in (Role.NORM, Role.EXTRACTOR, Role.RESIDUAL):
            vector = self.full.inputs.get(layer)
        if vector is not None and isinstance(output, list):  # one map for each branch
            return [self._active_part(value, vector, dim) for value in output]
        if vector is not None and isinstance(output, tuple) and is_attention(layer):  # with its weights
            return (self._active_part(output[0], vector, dim), *output[1:])
        if vector is None or not isinstance(output, Tensor):
            for value in tensors_in(output):
                set_ids(value, None)
            return None
        return self._active_part(output, vector, dim)

    def use(self, parameters: Iterable[nn.Parameter], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Let an operation use the active channels of parameters."""
        parts = {
            id(parameter): self._active_part(parameter.detach(), self.outputs[parameter], -1)
            for parameter in parameters
            if parameter in self.outputs
        }
        return _replaced(args, parts), {name: _replaced(value, parts) for name, value in kwargs.items()}

    def feed(self, key: object, value: Tensor) -> Tensor:
        """The active channels of a level."""
        return self._active_part(value, self.outputs[key], 1)

    def _active_part(self, value: Tensor, vector: np.ndarray, dim: int) -> Tensor:
        value = self._selected(value, vector, dim)
        spread(vector[self._places(vector)], value, dim)
        return value

    def _check(self, layer: nn.Module, value: Tensor, whole: Tensor, dim: int) -> None:
        """Check that the active part of the full-width input arrives."""
        expected = self.full.inputs[layer]
        right = all(self._is_active_part(row, expected) for row in rows(value, dim))
        if not right or not _is_close(value, self._selected(whole, expected, dim)):
            self._note(layer, expected)

    def _note(self, layer: nn.Module, expected: np.ndarray | None) -> None:
        reason = f'{type(layer).__name__} would get other values in a narrow network than at full width'
        self.wrong.append((NONE if expected is None else expected, reason))
        self.wrong += [(ids, 'a narrow network mixes them') for ids in self.recent]

    def _check_results(self) -> None:
        """Check that the model returns the active part of its full-width outputs."""
        reason = 'a narrow network would give other outputs'
        for value, whole in zip(self.results, self.full.results):
            ids, dim, vector = ids_of(whole), 0, NONE
            if ids is not None and compact(ids).numel() == max(compact(ids).shape):
                dim = max(range(whole.dim()), key=compact(ids).size)
                vector = rows(whole, dim)[0]
                whole = self._selected(whole, vector, dim)
            if not _is_close(value, whole):
                self.wrong += [(ids, reason) for ids in [vector, *self.recent]]

    def _selected(self, value: Tensor, vector: np.ndarray, dim: int) -> Tensor:
        """The active channels of a tensor that has all of them."""
        places = self._places(vector)
        if len(places) == len(vector):
            return value
        return value.index_select(dim, torch.as_tensor(places, device=value.device))

    def _is_active_part(self, arrived: np.ndarray, expected: np.ndarray) -> bool:
        ours, theirs = self.ids.find(arrived), self.ids.find(expected[self._places(expected)])
        if len(ours) != len(theirs):
            return False
        unnamed = ((ours == ALWAYS) & self._kept[theirs]) | ((theirs == ALWAYS) & self._kept[ours])
        return bool(np.all((ours == theirs) | unnamed))

    def _places(self, vector: np.ndarray) -> np.ndarray:
        """The places of the active channels."""
        return np.flatnonzero(self.active[self.ids.find(vector)])


def _replaced(value: Any, whole: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return whole.get(id(value), value)
    if isinstance(value, dict):
        return {name: _replaced(item, whole) for name, item in value.items()}
    return type(value)(_replaced(item, whole) for item in value) if type(value) in (list, tuple) else value


def _is_close(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if ours.is_meta or not ours.numel() or torch.equal(ours, theirs):
        return True
    if not ours.is_floating_point():
        return False
    tolerance = max(TOLERANCE, 10 * torch.finfo(ours.dtype).eps)
    ours, theirs = ours.double(), theirs.double()
    largest = theirs.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
