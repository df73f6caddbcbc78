"""Files that are whole at each moment, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Write a file under another name and rename it, so that nobody ever sees a part of it.

    A killed process leaves the part, a hidden file, which the next attempt overwrites.

    Args:
        path: Where it goes; the folder is made, and a file of that name is replaced.
        write: Writes the file to the path that it is given.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}_part{path.suffix}')
    try:
        write(part)
        with open(part, 'rb') as file:
            os.fsync(file.fileno())  # a rename must not reach the disk before the content
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
