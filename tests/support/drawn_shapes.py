"""The files of a drawn set of shapes."""

from __future__ import annotations

import json
from pathlib import Path

SMALL = dict(num_train=4, num_val=2, image_size=64, progress=False)


def read_folder(root: Path) -> dict[str, bytes]:
    """Read all files under a folder by their relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def load(root: Path, split: str) -> dict:
    """Load the annotations of a split."""
    return json.loads((root / 'annotations' / f'{split}.json').read_bytes())
