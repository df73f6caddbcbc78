"""Draw the data set 'shapes': COCO instance segmentation with nothing to download."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmmutual.datasets.shapes import SHAPES, TEXTURES, ShapesOptions, draw_shapes

ROWS, COLS, TILE, GAP = 4, 6, 384, 6  # the preview: images, and pixels about one image


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--root', default='data/shapes', help='folder of the set')
    parser.add_argument('--num-train', type=int, default=ShapesOptions.num_train, help='training images')
    parser.add_argument('--num-val', type=int, default=ShapesOptions.num_val, help='validation images')
    parser.add_argument('--image-size', type=int, default=ShapesOptions.image_size, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=ShapesOptions.seed, help='seed of the random draws')
    parser.add_argument('--shapes', nargs='+', default=ShapesOptions.shapes, help=f'some of {SHAPES}')
    parser.add_argument('--textures', nargs='+', default=ShapesOptions.textures, help=f'some of {TEXTURES}')
    parser.add_argument(
        '--min-size', type=float, default=ShapesOptions.min_size, help='smallest size of an object in pixels'
    )
    parser.add_argument('--max-size', type=float, help='largest size in pixels; None is 5/8 of the image size')
    parser.add_argument('--force', action='store_true', help='draw anew and replace the set in the folder')
    parser.add_argument('--preview', metavar='PATH', help='write annotated training images to this file')
    return parser.parse_args()


def draw_preview(root: str | Path) -> np.ndarray:
    """Put the first training images on a sheet, with outlines, boxes and class names.

    Args:
        root: Folder of a drawn set.

    Returns:
        The sheet of shape (H, W, 3) in BGR, uint8.
    """
    coco = json.loads((Path(root) / 'annotations' / 'train.json').read_text(encoding='utf-8'))
    names = {category['id']: category['name'] for category in coco['categories']}
    shape = (ROWS * (TILE + GAP) + GAP, COLS * (TILE + GAP) + GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for index, image in enumerate(coco['images'][: ROWS * COLS]):
        tile = cv2.imread(str(Path(root) / 'train' / image['file_name']))
        tile = cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_NEAREST)
        annotations = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        for annotation in annotations:
            draw_outline(tile, annotation)
        # The names come last, so that no outline crosses them.
        taken = np.zeros((TILE, TILE), bool)
        for annotation in annotations:
            corner, size = np.array(annotation['bbox']).reshape(2, 2) * TILE / image['width']
            draw_name(tile, names[annotation['category_id']], corner, size, taken)
        y, x = (GAP + i * (TILE + GAP) for i in divmod(index, COLS))
        sheet[y : y + TILE, x : x + TILE] = tile
    return sheet


def draw_outline(tile: np.ndarray, annotation: dict) -> None:
    """Outline a mask in yellow on black and its box in white, in place."""
    mask = mask_utils.decode(annotation['segmentation'])
    scale = TILE / mask.shape[1]
    mask = cv2.resize(mask, (TILE, TILE), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tile, contours, -1, (0, 0, 0), 3)
    cv2.drawContours(tile, contours, -1, (0, 255, 255), 1)
    x, y, width, height = (round(value * scale) for value in annotation['bbox'])
    cv2.rectangle(tile, (x, y), (x + width - 1, y + height - 1), (255, 255, 255), 1)


def draw_name(tile: np.ndarray, name: str, corner: np.ndarray, size: np.ndarray, taken: np.ndarray) -> None:
    """Write a class name by its box, in place, where it hides the least of the others.

    Args:
        tile: Image of shape (H, W, 3) in BGR, uint8.
        name: What to write.
        corner: Upper left corner (x, y) of the box in pixels of the tile.
        size: Width and height of the box in pixels of the tile.
        taken: Where names are already, of shape (H, W), bool; updated in place.
    """
    font, height = (cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1), 16
    width = cv2.getTextSize(name, *font)[0][0] + 4
    (left, top), (right, bottom) = corner, corner + size
    places = [
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (right, top),
        (left - width, top),
    ]
    places = [(int(np.clip(x, 0, TILE - width)), int(np.clip(y, 0, TILE - height))) for x, y in places]
    x, y = min(places, key=lambda p: taken[p[1] : p[1] + height, p[0] : p[0] + width].sum())
    taken[y : y + height, x : x + width] = True
    tile[y : y + height, x : x + width] = 0
    cv2.putText(tile, name, (x + 2, y + height - 4), font[0], font[1], (255, 255, 255), font[2], cv2.LINE_AA)


def main() -> None:
    """Draw the set and its preview."""
    args = vars(parse_args())
    preview = args.pop('preview')
    try:
        draw_shapes(**args)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from None
    if preview:
        Path(preview).parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(preview, draw_preview(args['root'])):
            raise SystemExit(f'error: --preview {preview} could not be written')


if __name__ == '__main__':
    main()
