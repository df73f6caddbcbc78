"""The image files of a folder, whatever the case of their endings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmdet.apis.det_inferencer import IMG_EXTENSIONS


def find_images(folder: str | Path, extensions: Sequence[str] = IMG_EXTENSIONS) -> list[Path]:
    """Find the images of a folder, without those of its subfolders.

    Args:
        folder: A folder.
        extensions: Endings of their names in lower case; upper case counts as well.

    Returns:
        The files in the order of their names, without hidden ones.

    Raises:
        ValueError: If the folder has no image.
    """
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in extensions and not path.name.startswith('.') and path.is_file()
    ]
    if not found:
        raise ValueError(f'the folder {folder} has no file that ends in one of {", ".join(extensions)}')
    return found
