"""Shapes: a procedurally drawn instance segmentation data set in COCO format.

A class is a pair of texture and shape ('striped circle'), so that recognising an object takes
both its outline and its fine detail; its colours say nothing about the class. The objects
overlap, lie on a cluttered background and have sizes spread evenly over octaves.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmmutual.progress import Progress

DESCRIPTION = 'Shapes, procedurally drawn for mmmutual'
FORMAT_VERSION = 1  # raised whenever the same arguments would give another set
SPLITS = ('train', 'val')
SHAPES = ('circle', 'square', 'triangle', 'star')
TEXTURES = ('striped', 'dotted', 'checked', 'solid')
DEFAULT_SHAPES = ('circle', 'triangle')
DEFAULT_TEXTURES = ('striped', 'solid')
CLASSES = tuple(f'{texture} {shape}' for texture in TEXTURES for shape in SHAPES)

MIN_PIXELS = 30  # fewer show neither the outline nor the texture
_ATTEMPTS = 50  # positions tried for an object before it is left out
_SUPERSAMPLING = 4
_MIN_CONTRAST = 90  # between the luma of the two colours of an object, of 255
# Circumradius over nominal size, chosen so that all shapes look about equally large.
_RADII = dict(circle=0.5, square=0.64, triangle=0.7, star=0.68)
# Period over nominal size. A checkerboard has two edges a period in both directions, so it
# needs a longer one to be told from dots in the smallest objects.
_PERIODS = dict(striped=0.32, dotted=0.36, checked=0.5, solid=1.0)


def class_names(shapes: Sequence[str] = DEFAULT_SHAPES, textures: Sequence[str] = DEFAULT_TEXTURES) -> tuple[str, ...]:
    """Name the classes of a selection of shapes and textures, in the order of ``CLASSES``.

    It is what ``metainfo=dict(classes=...)`` of a data set drawn with that selection wants.
    """
    return tuple(
        f'{texture} {shape}' for texture in TEXTURES if texture in textures for shape in SHAPES if shape in shapes
    )


@dataclass(frozen=True)
class ShapesOptions:
    """What determines a drawn set.

    Args:
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Side of the square images in pixels.
        seed: Seed of the random draws.
        shapes: Selection from ``SHAPES``.
        textures: Selection from ``TEXTURES``.
        min_size: Smallest nominal size of an object, the diameter of a circle, in pixels.
        max_size: Largest nominal size in pixels; 5/8 of ``image_size`` if None. Sizes are
            drawn log-uniformly in between.
        min_objects: Fewest objects drawn in an image. An object that finds no place is left
            out, so that a crowded image may hold fewer.
        max_objects: Most objects drawn in an image.
        min_visible: Share of its area that every object shows in spite of the objects before
            it and the border of the image.

    Raises:
        ValueError: If an argument is not allowed.
    """

    num_train: int = 1000
    num_val: int = 100
    image_size: int = 128
    seed: int = 0
    shapes: Sequence[str] = DEFAULT_SHAPES
    textures: Sequence[str] = DEFAULT_TEXTURES
    min_size: float = 20
    max_size: float | None = None
    min_objects: int = 3
    max_objects: int = 7
    min_visible: float = 0.5

    def __post_init__(self) -> None:
        _check_range('num_train', self.num_train, 1)
        _check_range('num_val', self.num_val, 1)
        _check_range('image_size', self.image_size, 32)
        _check_range('seed', self.seed, 0)
        set_field = functools.partial(object.__setattr__, self)  # the way into a frozen class
        set_field('shapes', _select('shapes', self.shapes, SHAPES))
        set_field('textures', _select('textures', self.textures, TEXTURES))
        if self.max_size is None:
            set_field('max_size', self.image_size * 5 / 8)
        _check_range('max_size', self.max_size, 8, self.image_size)
        _check_range('min_size', self.min_size, 8, self.max_size)
        _check_range('max_objects', self.max_objects, 1)
        _check_range('min_objects', self.min_objects, 1, self.max_objects)
        _check_range('min_visible', self.min_visible, 0, 1)


def draw_shapes(root: str | os.PathLike, force: bool = False, progress: bool = True, **options: Any) -> bool:
    """Draw a set into ``root`` unless it already holds the very same one.

    The set appears only once it is whole: ``annotations/{train,val}.json`` and the images
    ``{train,val}/000000.png`` and so on. An image depends on neither the number of images nor
    the other images.

    Args:
        root: Folder of the set, created if need be.
        force: Draw even if ``root`` holds a set, which is then replaced.
        progress: Show a progress bar.
        **options: Arguments of :class:`ShapesOptions`.

    Returns:
        Whether anything was drawn.

    Raises:
        ValueError: If an option is not allowed, if ``root`` cannot be written, or if it holds
            another set (without ``force``) or anything but a set.
    """
    options = ShapesOptions(**options)
    root = Path(root).expanduser().resolve()
    if _holds(root, options, force):
        print(f'{root} is already drawn')
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # Beside the root, hence on its file system, where a rename is atomic.
        scratch = tempfile.TemporaryDirectory(prefix=f'.{root.name}.', dir=root.parent)
    except OSError as error:
        raise ValueError(f'root={root} cannot be written ({error}): choose another') from None
    with scratch as folder:
        for split in SPLITS:
            _draw_split(Path(folder) / 'set', split, options, progress)
        _publish(Path(folder), root, options, force)
    return True


def draw_image(options: ShapesOptions, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw one image of a set.

    Args:
        options: What determines the set.
        split: One of ``SPLITS``.
        index: Which image of the split.

    Returns:
        The image of shape (H, W, 3) in BGR, uint8; the visible masks of its N objects, which
        do not overlap, of shape (N, H, W), bool; and the names of their classes.
    """
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    image = _draw_background(rng, options.image_size)
    masks = np.zeros((0, *image.shape[:2]), bool)
    floors = np.zeros(0)  # pixels that each object has to keep
    names = []
    for _ in range(rng.integers(options.min_objects, options.max_objects + 1)):
        shape, texture = rng.choice(options.shapes), rng.choice(options.textures)
        size = np.exp(rng.uniform(np.log(options.min_size), np.log(options.max_size)))
        colour, alpha = _draw_object(rng, shape, texture, size)
        floor = max(MIN_PIXELS, options.min_visible * np.count_nonzero(alpha >= 0.5))
        for _ in range(_ATTEMPTS):
            canvas, patch = _random_overlap(rng, options.image_size, len(alpha))
            mask = np.zeros(image.shape[:2], bool)
            mask[canvas] = alpha[patch] >= 0.5
            occluded = np.concatenate((masks & ~mask, mask[None]))
            if np.all(occluded.sum((1, 2)) >= np.append(floors, floor)):
                masks, floors = occluded, np.append(floors, floor)
                names.append(f'{texture} {shape}')
                image[canvas] += alpha[patch][..., None] * (colour[patch] - image[canvas])
                break
    image += rng.normal(0, 3, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), masks, names


def _check_range(name: str, value: float, low: float, high: float = np.inf) -> None:
    if not low <= value <= high:
        allowed = f'at least {low:g}' + ('' if high == np.inf else f' and at most {high:g}')
        raise ValueError(f'{name}={value} is not allowed: pass {allowed}')


def _select(name: str, values: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Put a selection into the known order, so that equal sets have equal arguments."""
    values = tuple(values)
    if not values or not set(values) <= set(known):
        raise ValueError(f'{name}={values} is not allowed: pass one or more of {known}')
    return tuple(value for value in known if value in values)


def _draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw noise over some octaves under lines and arcs, shape (size, size, 3), float32."""
    image = np.full((size, size, 3), rng.uniform(60, 195, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        noise = rng.normal(0, rng.uniform(5, 22), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image, 0, 255).astype(np.uint8)  # OpenCV anti-aliases 8 bit images only
    for _ in range(rng.integers(6, 15)):
        colour, width = rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 2 + size // 96))
        first, second = rng.integers(0, size, (2, 2)).tolist()
        if rng.random() < 0.5:
            cv2.line(image, first, second, colour, width, cv2.LINE_AA)
        else:
            axes = rng.integers(size // 16, size // 2, 2).tolist()
            start, sweep = rng.uniform(0, 360), rng.uniform(40, 160)
            cv2.ellipse(image, first, axes, rng.uniform(0, 180), start, start + sweep, colour, width, cv2.LINE_AA)
    return image.astype(np.float32)


def _draw_object(rng: np.random.Generator, shape: str, texture: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw an object at a random orientation on a patch of its own, P pixels wide.

    Args:
        rng: Source of its orientation, position and colours.
        shape: One of ``SHAPES``.
        texture: One of ``TEXTURES``.
        size: Nominal size in pixels.

    Returns:
        Its colours of shape (P, P, 3) in BGR, float32, and its coverage of shape (P, P)
        between 0 and 1, float32.
    """
    radius = size * _RADII[shape]
    patch = 2 * int(np.ceil(radius)) + 3
    fine = patch * _SUPERSAMPLING
    centre = fine / 2 + rng.uniform(-0.5, 0.5, 2) * _SUPERSAMPLING
    corners = centre + radius * _SUPERSAMPLING * _outline(shape, rng.uniform(0, 2 * np.pi))
    coverage = np.zeros((fine, fine), np.uint8)
    cv2.fillPoly(coverage, [np.rint(corners * 16).astype(np.int32)], 255, shift=4)
    period = size * _PERIODS[texture] * rng.uniform(0.85, 1.2) * _SUPERSAMPLING
    blend = _draw_texture(rng, texture, fine, period)
    coverage, blend = (
        cv2.resize(x.astype(np.float32), (patch, patch), interpolation=cv2.INTER_AREA) for x in (coverage, blend)
    )
    fore, back = _contrasting_colours(rng)
    return back + blend[..., None] * (fore - back), coverage / 255


def _outline(shape: str, angle: float) -> np.ndarray:
    """Return the corners of a shape of circumradius 1, turned by ``angle``, shape (K, 2)."""
    num_corners = dict(circle=64, square=4, triangle=3, star=10)[shape]
    angles = angle + np.arange(num_corners) * 2 * np.pi / num_corners
    radii = np.where(np.arange(num_corners) % 2, 0.48, 1) if shape == 'star' else 1
    return np.stack((np.cos(angles) * radii, np.sin(angles) * radii), 1)


def _draw_texture(rng: np.random.Generator, texture: str, size: int, period: float) -> np.ndarray:
    """Draw a texture of two tones at a random orientation and phase, shape (size, size)."""
    angle, grid = rng.uniform(0, 2 * np.pi), np.arange(size, dtype=np.float32)
    cos, sin = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
    u = cos * grid + sin * grid[:, None] + np.float32(rng.random())
    v = -sin * grid + cos * grid[:, None] + np.float32(rng.random())
    u, v = u - np.floor(u), v - np.floor(v)
    if texture == 'striped':
        return u < 0.5
    if texture == 'dotted':
        return (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.32**2
    if texture == 'checked':
        return (u < 0.5) ^ (v < 0.5)
    return np.ones((size, size), bool)


def _contrasting_colours(rng: np.random.Generator) -> np.ndarray:
    """Draw two colours of different luma, shape (2, 3) in BGR, float32."""
    while True:
        colours = rng.uniform(0, 255, (2, 3)).astype(np.float32)
        luma = colours @ np.array([0.114, 0.587, 0.299], np.float32)
        if abs(luma[0] - luma[1]) >= _MIN_CONTRAST:
            return colours


def _random_overlap(rng: np.random.Generator, size: int, patch: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Put a patch at random, centred within the image, and slice both where they meet."""
    starts = rng.integers(0, size, 2) - patch // 2
    inside = [(max(start, 0), min(start + patch, size)) for start in starts.tolist()]
    canvas = tuple(slice(low, high) for low, high in inside)
    offset = tuple(slice(low - start, high - start) for (low, high), start in zip(inside, starts.tolist()))
    return canvas, offset


def _draw_split(root: Path, split: str, options: ShapesOptions, progress: bool) -> None:
    """Write the images and the annotations of a split."""
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
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
    """Tell whether ``root`` holds the set wanted; False means that it is to be drawn.

    Args:
        root: Folder of the set.
        options: What determines the set.
        force: Whether another set may be replaced.

    Returns:
        Whether the very same set is there.

    Raises:
        ValueError: If it holds another set, unless ``force``, or anything but a set, which
            ``force`` never removes.
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
