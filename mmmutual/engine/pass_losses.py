"""The losses of passes, read from the device in one transfer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class NonfiniteLossError(FloatingPointError):
    """A loss is infinite or NaN; the message names its pass."""


@dataclass
class PassLosses:
    """The losses of a pass.

    Args:
        where: The pass, for messages.
        terms: Names of the losses that MMEngine adds up.
        log: Values to log by name, tensors () without graph; those of the terms are among them.
    """

    where: str
    terms: list[str]
    log: dict[str, Tensor]

    @classmethod
    def of(cls, where: str, losses: dict, log: dict[str, Tensor]) -> PassLosses:
        """Keep the losses of a pass, but not its graph.

        Args:
            where: The pass, for messages.
            losses: Tensors or lists of tensors by name, as a detector returns them.
            log: The values to log, as MMEngine's ``parse_losses`` returns them.

        Returns:
            The losses.
        """
        terms = [name for name in losses if 'loss' in name and name in log] or ['loss']
        return cls(where, terms, {name: value.detach() for name, value in log.items()})

    def nonfinite(self) -> str:
        """The terms that are infinite or NaN, in words; empty if there are none. Call ``read`` before."""
        numbers = {name: self.log[name].item() for name in self.terms}
        return ', '.join(f'{name} is {number}' for name, number in numbers.items() if not math.isfinite(number))


def read(passes: Sequence[PassLosses]) -> None:
    """Move the losses of passes to the CPU, in place: the CPU waits for a GPU once.

    Args:
        passes: The passes.
    """
    values = [value.reshape(1) for each in passes for value in each.log.values()]
    if not values:
        return
    numbers = iter(torch.cat([value.to(values[0].device) for value in values]).cpu().unbind())
    for each in passes:
        each.log = {name: next(numbers) for name in each.log}
