"""Draw one image of shapes."""

from __future__ import annotations

import cv2
import numpy as np

from .shapes_options import SPLITS, ShapesOptions

MIN_PIXELS = 30  # with fewer, neither the outline nor the texture is visible
_ATTEMPTS = 50  # positions tried for an object before it is left out
_SUPERSAMPLING = 4
_MIN_CONTRAST = 90  # between the luma of the two colours of an object, of 255
# Circumradius over nominal size, chosen so that all shapes look about equally large.
_RADII = dict(circle=0.5, square=0.64, triangle=0.7, star=0.68)
# Period over nominal size. A checkerboard has two edges a period in both directions, so it
# needs a longer period to be distinguished from dots in the smallest objects.
_PERIODS = dict(striped=0.32, dotted=0.36, checked=0.5, solid=1.0)


def draw_image(options: ShapesOptions, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw one image of a set.

    Args:
        options: Options of the set.
        split: One of ``SPLITS``.
        index: Index of the image in the split.

    Returns:
        The image of shape (H, W, 3) in BGR, uint8; the visible masks of its N objects, which
        do not overlap, of shape (N, H, W), bool; and the names of their classes.
    """
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    image = _draw_background(rng, options.image_size)
    masks: np.ndarray = np.zeros((0, *image.shape[:2]), bool)
    floors: np.ndarray = np.zeros(0)  # pixels of each object that have to stay visible
    names = []
    for _ in range(rng.integers(options.min_objects, options.max_objects + 1)):
        shape, texture = rng.choice(options.shapes), rng.choice(options.textures)
        size = np.exp(rng.uniform(np.log(options.min_size), np.log(options.largest)))
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


def _draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw noise of several octaves, then lines and arcs over it; shape (size, size, 3), float32."""
    image: np.ndarray = np.full((size, size, 3), rng.uniform(60, 195, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        noise = rng.normal(0, rng.uniform(5, 22), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image, 0, 255).astype(np.uint8)  # OpenCV anti-aliases 8 bit images only
    for _ in range(rng.integers(6, 15)):
        colour, thickness = rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 2 + size // 96))
        first, second = rng.integers(0, size, (2, 2)).tolist()
        if rng.random() < 0.5:
            cv2.line(image, first, second, colour, thickness, cv2.LINE_AA)
        else:
            axes = rng.integers(size // 16, size // 2, 2).tolist()
            start, sweep = rng.uniform(0, 360), rng.uniform(40, 160)
            cv2.ellipse(image, first, axes, rng.uniform(0, 180), start, start + sweep, colour, thickness, cv2.LINE_AA)
    return image.astype(np.float32)


def _draw_object(rng: np.random.Generator, shape: str, texture: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw an object at a random orientation on a separate patch, P pixels wide.

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
    coverage: np.ndarray = np.zeros((fine, fine), np.uint8)
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
    """Place the centre of a patch at random in an image; return the slices of image and patch where they overlap."""
    starts = rng.integers(0, size, 2) - patch // 2
    top, left = starts.tolist()
    (upper, lower), (first, last) = [(max(start, 0), min(start + patch, size)) for start in (top, left)]
    canvas = slice(upper, lower), slice(first, last)
    return canvas, (slice(upper - top, lower - top), slice(first - left, last - left))
