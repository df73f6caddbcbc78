"""Instances drawn on an image: one colour for each class, and labels that do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from mmdet.visualization import get_palette
from mmengine.structures import InstanceData

Color = tuple[int, int, int]
FEW_CLASSES = 10  # that many colours differ at first sight
OPACITY = 0.4  # of a mask
FONT, FONT_SIZE, MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 3  # on an image of up to SIDE pixels
SIDE = 640


def class_colors(classes: Sequence[str], palette: object = None) -> list[Color]:
    """One RGB colour for each class.

    Args:
        classes: Names of the classes.
        palette: The data set's ``metainfo['palette']``. One of another length belongs to other classes, as that of
            COCO to a ``CocoDataset`` with other ``classes``. Then a few classes get colours that differ clearly,
            many get mmdet's random but fixed ones.

    Returns:
        As many colours as classes.
    """
    if isinstance(palette, Sequence) and not isinstance(palette, str) and len(palette) == len(classes):
        return [(red, green, blue) for red, green, blue in palette]
    if len(classes) > FEW_CLASSES:
        return [(int(red), int(green), int(blue)) for red, green, blue in get_palette('random', len(classes))]
    colors = colormaps['tab10'](range(len(classes)))[:, :3]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors]


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    colors: Sequence[Color],
    classes: Sequence[str] = (),
    score_thr: float = 0.5,
    labels: bool = True,
    factor: float = 1.0,
) -> np.ndarray:
    """Draw boxes and masks, and a label by each box.

    A label is left out where every place next to its box is taken by the label of a better detection.

    Args:
        image: (H, W, 3) in RGB, uint8.
        instances: Predictions or ground truth in pixels of the image: ``bboxes`` (N, 4), ``labels`` (N,), and perhaps
            ``scores`` (N,) and ``masks`` (N, H, W).
        colors: RGB for each class, as ``class_colors`` returns them.
        classes: Names for the labels; without them a label is the score alone.
        score_thr: Instances below this score are left out.
        labels: Whether to write labels.
        factor: Enlargement of the image, which is resized before anything is drawn.

    Returns:
        (H * factor, W * factor, 3) in RGB, uint8.
    """
    instances = _chosen(instances, score_thr)
    image_height, image_width = (max(1, round(side * factor)) for side in image.shape[:2])
    size = image_width, image_height
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    unit = max(1, round(max(size) / SIDE))
    boxes = _array(instances.bboxes) * np.tile((image_width / image.shape[1], image_height / image.shape[0]), 2)
    drawn = [colors[label] for label in instances.labels.tolist()]
    if 'masks' in instances:
        for mask, color in zip(_array(instances.masks), drawn):
            _draw_mask(canvas, mask, color, unit)
    corners = boxes.round().astype(int)
    for (left, top, right, bottom), color in zip(corners.tolist(), drawn):
        cv2.rectangle(canvas, (left, top), (right, bottom), color, 2 * unit)
    if labels:
        taken = np.zeros((image_height, image_width), dtype=bool)
        for corner, color, text in zip(corners, drawn, _texts(instances, classes)):
            _draw_label(canvas, text, corner, color, unit, taken)
    return canvas


def _chosen(instances: InstanceData, score_thr: float) -> InstanceData:
    """The instances at or above a score, the best first."""
    if 'scores' not in instances:
        return instances
    order = instances.scores.argsort(descending=True)
    return instances[order[instances.scores[order] >= score_thr]]


def _array(value: object) -> np.ndarray:
    """Boxes (N, 4) or masks (N, H, W) of any of mmdet's structures as an array."""
    if hasattr(value, 'to_ndarray'):
        return value.to_ndarray()
    return torch.as_tensor(getattr(value, 'tensor', value)).cpu().numpy()


def _texts(instances: InstanceData, classes: Sequence[str]) -> list[str]:
    names = [classes[label] for label in instances.labels.tolist()] if classes else [''] * len(instances)
    if 'scores' not in instances:
        return names
    return [f'{name} {score:.2f}'.strip() for name, score in zip(names, instances.scores.tolist())]


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, color: Color, unit: int) -> None:
    """Tint a mask and outline it, in place."""
    mask = cv2.resize(mask.astype(np.uint8), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    inside = mask.astype(bool)
    canvas[inside] = ((1 - OPACITY) * canvas[inside] + OPACITY * np.array(color)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, color, unit)


def _draw_label(canvas: np.ndarray, text: str, box: np.ndarray, color: Color, unit: int, taken: np.ndarray) -> None:
    """Write a label next to its box where there is room, in place; ``taken`` (H, W) marks the labels."""
    size, margin = FONT_SIZE * unit, MARGIN * unit
    (text_width, text_height), baseline = cv2.getTextSize(text, FONT, size, unit)
    label_width, label_height = text_width + 2 * margin, text_height + baseline + margin
    place = free_place(box.tolist(), (label_height, label_width), taken) if text else None
    if place is None:
        return
    x, y = place
    taken[y : y + label_height, x : x + label_width] = True
    canvas[y : y + label_height, x : x + label_width] = color
    ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)  # luminance of ITU-R BT.601
    cv2.putText(canvas, text, (x + margin, y + label_height - baseline), FONT, size, ink, unit, cv2.LINE_AA)


def free_place(box: Sequence[int], size: tuple[int, int], taken: np.ndarray) -> tuple[int, int] | None:
    """Where a label goes: above or below its box, else inside it.

    Args:
        box: Left, top, right and bottom in pixels.
        size: Height and width of the label in pixels.
        taken: Pixels (H, W) of other labels, bool.

    Returns:
        The left and top pixel of the first place that is free and within the image; None if there is none.
    """
    left, top, right, bottom = box
    (label_height, label_width), (rows, columns) = size, taken.shape
    for y in (top - label_height, bottom, top, bottom - label_height):
        for x in (left, right - label_width, (left + right - label_width) // 2):
            x, y = min(max(x, 0), columns - label_width), min(max(y, 0), rows - label_height)
            if x >= 0 and y >= 0 and not taken[y : y + label_height, x : x + label_width].any():
                return x, y
    return None
