"""A progress bar for terminals that writes occasional lines to a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

INTERVAL = 60  # seconds between two lines


class Progress(tqdm):
    """tqdm's progress bar; if the output is not a terminal, it writes lines: at the start, each minute and at the end.

    Args:
        *args: As ``tqdm``.
        **kwargs: As ``tqdm``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not is_terminal(kwargs.get('file')):
            kwargs.update(mininterval=INTERVAL, maxinterval=INTERVAL)
        super().__init__(*args, **kwargs)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """Return the function that draws the bar: in place in a terminal, on a new line elsewhere."""
        if is_terminal(file):
            return tqdm.status_printer(file)

        def write_line(status: str) -> None:
            if status.strip():
                file.write(f'{status.strip()}\n')
                file.flush()

        return write_line


def is_terminal(file: TextIO | None = None) -> bool:
    """Whether an output, by default the standard error output, is a terminal."""
    return (file or sys.stderr).isatty()
