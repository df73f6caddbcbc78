"""Image files of a folder, as cameras and people call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmdet.apis.det_inferencer import IMG_EXTENSIONS


def find_images(folder: str | Path, extensions: Sequence[str] = IMG_EXTENSIONS) -> list[Path]:
    """Find the images of a folder, not of those below it.

    Args:
        folder: A folder.
        extensions: What their names end in, in small letters; capital letters count as well.

    Returns:
        The files in the order of their names, without hidden ones.

    Raises:
        ValueError: If there is none.
    """
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in extensions and not path.name.startswith('.') and path.is_file()
    ]
    if not found:
        raise ValueError(f'the folder {folder} has no file that ends in one of {", ".join(extensions)}')
    return found
