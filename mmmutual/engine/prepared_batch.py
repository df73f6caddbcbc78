"""The preprocessed batch of an iteration, made once for all of its passes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class PreparedBatch:
    """What the data preprocessor returns in the first pass of an iteration, for the passes after it.

    So batch augmentations draw once an iteration, and all passes see the same images. Each pass has a copy: some
    augmentations and losses change boxes in place.

    Args:
        preprocessor: The model's data preprocessor; it is watched until ``close``.
    """

    def __init__(self, preprocessor: nn.Module) -> None:
        self._preprocessor = preprocessor
        self._output: object = None
        self._awaited = False
        self._handle = preprocessor.register_forward_hook(self._keep)

    def expect(self) -> None:
        """Keep a copy of what the data preprocessor returns next."""
        self._output, self._awaited = None, True

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Let the data preprocessor return copies of what was kept; without anything kept, it works as usual.

        Yields:
            Nothing.
        """
        if self._output is None:
            yield
            return
        self._preprocessor.forward = lambda *args, **kwargs: copy.deepcopy(self._output)
        try:
            yield
        finally:
            del self._preprocessor.forward

    def forget(self) -> None:
        """Free the memory."""
        self._output, self._awaited = None, False

    def close(self) -> None:
        """Leave the data preprocessor alone."""
        self.forget()
        self._handle.remove()

    def _keep(self, module: nn.Module, args: tuple, output: object) -> None:
        if self._awaited:
            self._output, self._awaited = copy.deepcopy(output), False
