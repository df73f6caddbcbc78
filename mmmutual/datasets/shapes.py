"""Shapes: a procedurally drawn instance segmentation data set in COCO format.

A class is a pair of texture and shape ('striped circle'). To recognise an object, a detector
needs its outline and its fine detail; the colours do not depend on the class. The objects
overlap, lie on a cluttered background and have sizes spread evenly over octaves.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmmutual.progress import Progress

from .shapes_image import draw_image
from .shapes_options import CLASSES, SPLITS, ShapesOptions, class_names

DESCRIPTION = 'Shapes, procedurally drawn for mmmutual'
FORMAT_VERSION = 1  # raised whenever the same arguments would give another set


def draw_shapes(root: str | os.PathLike, force: bool = False, progress: bool = True, **options: Any) -> bool:
    """Draw a set into ``root`` unless it already holds the same set.

    The set has ``annotations/{train,val}.json`` and the images ``{train,val}/000000.png`` and
    so on. It appears in ``root`` only when it is finished. An image depends neither on the
    number of images nor on the other images.

    Args:
        root: Folder of the set, created if necessary.
        force: Draw even if ``root`` holds a set, which is then replaced.
        progress: Show a progress bar.
        **options: Arguments of ``ShapesOptions``.

    Returns:
        Whether anything was drawn.

    Raises:
        ValueError: If an option is not allowed, if ``root`` cannot be written, or if it holds
            another set (without ``force``) or other files.
    """
    chosen = ShapesOptions(**options)
    root = Path(root).expanduser().resolve()
    if _holds(root, chosen, force):
        print(f'{root} is already drawn')
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # Next to the root, hence on the same file system, where a rename is atomic.
        scratch = tempfile.TemporaryDirectory(prefix=f'.{root.name}.', dir=root.parent)
    except OSError as error:
        raise ValueError(f'root={root} cannot be written ({error}): choose another') from None
    with scratch as folder:
        for split in SPLITS:
            _draw_split(Path(folder) / 'set', split, chosen, progress)
        _publish(Path(folder), root, chosen, force)
    return True


def _draw_split(root: Path, split: str, options: ShapesOptions, progress: bool) -> None:
    """Write the images and the annotations of a split."""
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    num_images = options.num_train if split == 'train' else options.num_val
    for index in Progress(range(num_images), f'Drawing {split}', disable=not progress):
        image, masks, names = draw_image(options, split, index)
        file_name = f'{index:06d}.png'
        if not cv2.imwrite(str(root / split / file_name), image):
            raise OSError(f'{root / split / file_name} could not be written')
        images.append(dict(id=index + 1, file_name=file_name, height=image.shape[0], width=image.shape[1]))
        for mask, name in zip(masks, names):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=CLASSES.index(name) + 1,
                    iscrowd=0,
                    **_encode(mask),
                )
            )
    categories = [dict(id=CLASSES.index(name) + 1, name=name) for name in class_names(options.shapes, options.textures)]
    info = dict(description=DESCRIPTION, version=FORMAT_VERSION, arguments=asdict(options))
    with open(root / 'annotations' / f'{split}.json', 'w', encoding='utf-8') as file:
        json.dump(dict(info=info, images=images, annotations=annotations, categories=categories), file)


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask as RLE, since occlusion leaves holes, with its area and box (x, y, w, h)."""
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    area, box = int(mask_utils.area(rle)), mask_utils.toBbox(rle).tolist()
    return dict(segmentation=dict(size=rle['size'], counts=rle['counts'].decode('ascii')), area=area, bbox=box)


def _holds(root: Path, options: ShapesOptions, force: bool) -> bool:
    """Whether ``root`` already holds the requested set; if not, it has to be drawn.

    Args:
        root: Folder of the set.
        options: Options of the set.
        force: Whether another set may be replaced.

    Returns:
        Whether the same set is in ``root``; False with ``force``.

    Raises:
        ValueError: If it holds another set, unless ``force``, or other files, which ``force``
            never removes.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        info = json.loads((root / 'annotations' / f'{SPLITS[-1]}.json').read_bytes())['info']
        found = dict(info['arguments'], version=info['version'])
        is_set = info['description'] == DESCRIPTION
    except (OSError, ValueError, KeyError, TypeError):
        is_set = False
    if not is_set:
        raise ValueError(
            f'root={root} holds something other than a set of shapes: choose a folder that is empty or does not exist'
        )
    # Through JSON, as tuples come back as lists.
    wanted = json.loads(json.dumps(dict(asdict(options), version=FORMAT_VERSION)))
    differences = [
        f'{name}={found.get(name)} instead of {wanted.get(name)}'
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if differences and not force:
        raise ValueError(
            f'root={root} holds a set drawn with {", ".join(differences)}: pass '
            '--force (force=True) to replace it, or another root'
        )
    return not force


def _publish(folder: Path, root: Path, options: ShapesOptions, force: bool) -> None:
    """Move the set drawn in ``folder`` to ``root``; ``folder`` is left for removal."""
    if force and root.exists():
        os.replace(root, folder / 'replaced')
    try:
        os.replace(folder / 'set', root)
    except OSError:
        # Another process may have drawn the same set in the meantime.
        if not _holds(root, options, force=False):
            raise
