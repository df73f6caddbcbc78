"""Draw the data set 'shapes': instance segmentation in COCO format, without a download."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools.coco import COCO

from mmmutual.datasets.shapes import draw_shapes
from mmmutual.datasets.shapes_options import SHAPES, TEXTURES, ShapesOptions
from mmmutual.evaluation.plotting import class_colors, draw_instances

ROWS, COLS, TILE, GAP = 4, 6, 384, 6  # the preview: images, and pixels about one image


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--root', default='data/shapes', help='folder of the data set')
    parser.add_argument('--num-train', type=int, default=ShapesOptions.num_train, help='number of training images')
    parser.add_argument('--num-val', type=int, default=ShapesOptions.num_val, help='number of validation images')
    parser.add_argument('--image-size', type=int, default=ShapesOptions.image_size, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=ShapesOptions.seed, help='seed of the random draws')
    parser.add_argument('--shapes', nargs='+', default=ShapesOptions.shapes, help=f'out of {SHAPES}')
    parser.add_argument('--textures', nargs='+', default=ShapesOptions.textures, help=f'out of {TEXTURES}')
    parser.add_argument(
        '--min-size', type=float, default=ShapesOptions.min_size, help='smallest size of an object in pixels'
    )
    parser.add_argument(
        '--max-size', type=float, help='largest size of an object in pixels; None is 5/8 of the image size'
    )
    parser.add_argument('--force', action='store_true', help='draw again and replace the data set in the folder')
    parser.add_argument('--preview', metavar='PATH', help='write annotated training images to this file')
    return parser.parse_args()


def draw_preview(root: str | Path) -> np.ndarray:
    """Put the first training images on a sheet, with outlines, boxes and class names.

    Args:
        root: Folder of a drawn set.

    Returns:
        The sheet of shape (H, W, 3) in RGB, uint8.
    """
    data = COCO(Path(root) / 'annotations' / 'train.json')
    numbers = {category: label for label, category in enumerate(data.cats)}
    names = [category['name'] for category in data.cats.values()]
    sheet = np.full((ROWS * (TILE + GAP) + GAP, COLS * (TILE + GAP) + GAP, 3), 255, np.uint8)
    for index, image in enumerate(list(data.imgs.values())[: ROWS * COLS]):
        annotations = data.imgToAnns[image['id']]
        boxes = np.array([annotation['bbox'] for annotation in annotations], dtype=float).reshape(-1, 4)
        instances = InstanceData(
            bboxes=torch.as_tensor(np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))),
            labels=torch.tensor([numbers[annotation['category_id']] for annotation in annotations]),
            masks=torch.as_tensor(np.array([data.annToMask(annotation) for annotation in annotations])),
        )
        tile = cv2.cvtColor(cv2.imread(str(Path(root) / 'train' / image['file_name'])), cv2.COLOR_BGR2RGB)
        y, x = (GAP + i * (TILE + GAP) for i in divmod(index, COLS))
        sheet[y : y + TILE, x : x + TILE] = draw_instances(
            tile, instances, class_colors(names), names, factor=TILE / image['width']
        )
    return sheet


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
        if not cv2.imwrite(preview, draw_preview(args['root'])[..., ::-1]):
            raise SystemExit(f'error: --preview {preview} could not be written')


if __name__ == '__main__':
    main()
