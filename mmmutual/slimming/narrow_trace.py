"""Follows channels through a narrow network that the stock model plays.

Each layer gets what arrives, filled up to all of its channels, and of what it gives the active ones go on. So all that
is between two layers sees the narrow network, and no layer is changed. A narrow network is right if each layer gets
the active ones of the channels that it takes at full width, in their order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .channel_ids import ALWAYS, rows, set_ids, spread
from .dry_run import ERRORS, first_line
from .operations import tensors_in
from .roles import Role, channel_dim
from .trace import Trace, features


class NarrowTrace(Trace):
    """One run of a narrow network.

    Args:
        full: The run at full width.
        active: For each id that stands for a set whether its channels are active.
    """

    def __init__(self, full: Trace, active: np.ndarray) -> None:
        super().__init__(full.ids, full.layers, full.writers)
        self.full, self.active = full, active
        self.outputs, self.inputs = dict(full.outputs), dict(full.inputs)
        self._kept = np.append(full.ids.kept(), True)  # the last place is that of ALWAYS
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
                self.wrong += [(ids, reason) for ids in self.recent]
        else:
            for end, expected in zip(self.ends, self.full.ends):
                if not self._is_active_part(end, expected):
                    self.wrong.append((expected, 'the outputs of a narrow network are others'))
        return self.wrong

    def take(self, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Fill up what arrives."""
        if self.layers[layer] is Role.STOCK or layer not in self.full.inputs:
            return super().take(layer, args, kwargs)
        expected = self.full.inputs[layer]
        whole = {id(value): self._filled(layer, value, expected) for value in features(args, kwargs)}
        if args:
            return (_replaced(args[0], whole), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: _replaced(kwargs[name], whole)}

    def give(self, layer: nn.Module, output: object) -> object:
        """Pass on the active channels of what the layer gives."""
        vector = self.outputs.get(layer)
        if self.layers[layer] in (Role.NORM, Role.EXTRACTOR):
            vector = self.full.inputs.get(layer)
        if vector is None or not isinstance(output, Tensor):
            for value in tensors_in(output):
                set_ids(value, None)
            return None
        return self._active_part(output, vector, channel_dim(layer))

    def feed(self, key: object, value: Tensor) -> Tensor:
        """The active channels of a level."""
        return self._active_part(value, self.outputs[key], 1)

    def _active_part(self, value: Tensor, vector: np.ndarray, dim: int) -> Tensor:
        places = self._places(vector)
        if len(places) < len(vector):
            value = value.index_select(dim, torch.as_tensor(places, device=value.device))
        spread(vector[places], value, dim)
        return value

    def _filled(self, layer: nn.Module, value: Tensor, expected: np.ndarray) -> Tensor:
        dim = channel_dim(layer)
        places = self._places(expected)
        right = all(self._is_active_part(row, expected) for row in rows(value, dim))
        if not right:
            self.wrong.append((expected, f'{type(layer).__name__} would get others in a narrow network'))
            self.wrong += [(ids, 'a narrow network mixes them') for ids in self.recent]
        elif len(places) == len(expected):
            return value
        shape = list(value.shape)
        shape[dim] = len(expected)
        whole = value.new_zeros(shape)
        return whole.index_copy_(dim, torch.as_tensor(places, device=value.device), value) if right else whole

    def _is_active_part(self, arrived: np.ndarray, expected: np.ndarray) -> bool:
        ours, theirs = self.ids.find(arrived), self.ids.find(expected[self._places(expected)])
        if len(ours) != len(theirs):
            return False
        unnamed = ((ours == ALWAYS) & self._kept[theirs]) | ((theirs == ALWAYS) & self._kept[ours])
        return bool(np.all((ours == theirs) | unnamed))

    def _places(self, vector: np.ndarray) -> np.ndarray:
        """The places of the active channels."""
        return np.flatnonzero(self.active[self.ids.find(vector)])


def _replaced(value: object, whole: dict[int, Tensor]) -> object:
    if isinstance(value, Tensor):
        return whole.get(id(value), value)
    return type(value)(_replaced(item, whole) for item in value) if isinstance(value, (list, tuple)) else value
