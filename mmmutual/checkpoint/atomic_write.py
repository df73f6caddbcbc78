"""Write files that stay valid if the process is killed at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Write a file under another name and rename it, so that an unfinished file never has the final name.

    A killed process leaves the unfinished file as a hidden file, which the next attempt overwrites.

    Args:
        path: Its path. The folder is created, and a file of that name is replaced.
        write: Function that writes the file to a path.

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
