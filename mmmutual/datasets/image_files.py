"""Check that image files exist, and that they are loaded with the expected size and channels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mmcv
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

MAX_NAMED = 3
MAX_OPENED = 1000  # images whose header is read, evenly spread: enough to find a resized folder quickly
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height
BITS_PER_SAMPLE = 258  # a TIFF tag


@dataclass(frozen=True)
class ImageLoading:
    """How a pipeline loads images.

    Args:
        color_type: Of ``LoadImageFromFile``, or None if the pipeline has none.
        backend: Its ``imdecode_backend``.
        channels: Number of channels that the model expects, if the config states it.
        skips_unreadable: Its ``ignore_empty``.
    """

    color_type: str | None = None
    backend: str = 'cv2'
    channels: int | None = None
    skips_unreadable: bool = False

    def loaded_channels(self, image: Image.Image) -> int | None:
        """Number of channels of an image after loading; None if it is unknown."""
        if self.color_type is None:
            return None
        if self.backend != 'tifffile' and self.color_type != 'unchanged':
            return 1 if self.color_type.startswith('grayscale') else 3
        return None if image.mode == 'P' else len(image.getbands())


def check_files(paths: Mapping[str, str], owner: str, remedy: str) -> None:
    """Check that files exist and are not empty.

    Args:
        paths: The files, by their names in messages.
        owner: The files and the list that names them, as the subject of a message.
        remedy: Ending of the message about missing files: their expected place and the way out.

    Raises:
        FileNotFoundError: If one is missing.
        ValueError: If one is empty.
    """
    sizes = _sizes(paths)
    absent = [name for name, size in sizes.items() if size is None]
    if absent:
        raise FileNotFoundError(
            f'{len(absent)} of the {len(sizes)} {owner} are not in {remedy.format(examples=_some(absent))}'
        )
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        raise ValueError(
            f'{len(empty)} of the {len(sizes)} {owner} are empty files, for example {_some(empty)}. Fetch them again'
        )


def check_headers(
    images: Sequence[tuple[str, str, tuple[int, int] | None]], path: str, loading: ImageLoading
) -> Iterator[str]:
    """Check the headers of up to ``MAX_OPENED`` images, evenly spread.

    Args:
        images: Name, path, and width and height in the annotations (None if they have no size).
        path: File or folder of the annotations, for messages.
        loading: The way the pipeline loads images.

    Yields:
        A note for the user, one sentence each.

    Raises:
        ValueError: If files are not images, if the size of loaded images differs from the annotations, or if their
            channels differ from those that the model expects.
    """
    resized, turned, other_channels, deep, unreadable = [], [], [], [], []
    turning: dict[str, bool] = {}
    looked_at = images[:: -(-len(images) // MAX_OPENED) or 1]
    for name, file_path, expected in looked_at:
        header = _read_header(file_path, loading, turning)
        if header is None:
            if not _is_loaded(file_path, loading):
                unreadable.append(name)
            continue
        if expected is not None and expected != header.loaded:
            if loading.color_type is None and sorted(expected) == sorted(header.loaded):
                pass  # an unknown loader may rotate images
            elif header.tagged and expected == header.loaded[::-1]:
                turned.append((name, header.turned))
            else:
                resized.append(f'{name} (is {_by(header.loaded)}, not {_by(expected)})')
        if header.channels is not None and loading.channels not in (None, header.channels):
            other_channels.append(f'{name} ({header.channels})')
        if header.bits == 16:
            deep.append(name)
    some = f'of {len(looked_at)} inspected images'
    if unreadable:
        raise ValueError(
            f'{len(unreadable)} {some} cannot be read, for example {_some(unreadable)}. They are damaged, or not '
            'images: fetch them again'
        )
    if resized:
        raise ValueError(
            f'{len(resized)} {some} have another size than {path} states, so its boxes would be in wrong places, for '
            f'example {_some(resized)}. Use the images that belong to the file, or scale its annotations'
        )
    if turned:
        raise ValueError(_about_turned(turned, some, path))
    if other_channels:
        raise ValueError(
            f'{len(other_channels)} {some} are loaded with other channels than the {loading.channels} that the model '
            f'expects (data_preprocessor.mean, backbone.in_channels), for example {_some(other_channels)}. Set '
            "LoadImageFromFile(color_type='color') for 3 channels or 'grayscale' for 1"
        )
    if deep:
        kept = 'keeps 8 of them: images that use a part of the range become dark (cv2) or saturated (pillow)'
        if loading.color_type == 'unchanged':
            kept = 'keeps the full range, which data_preprocessor.mean and std have to match'
        yield f'{len(deep)} {some} have 16 bits a channel, for example {_some(deep)}; {loading.color_type!r} {kept}'


def _about_turned(turned: Sequence[tuple[str, bool]], some: str, path: str) -> str:
    upright = turned[0][1]
    start = (
        f'{len(turned)} {some} have an orientation tag (EXIF) and are loaded '
        f'{"turned upright" if upright else "as they are stored"}, but {path} has their size '
        f'{"as they are stored" if upright else "turned upright"}, so that its boxes would be in wrong places, for '
        f'example {_some(name for name, _ in turned)}. '
    )
    if upright:
        return f"{start}Set color_type='color_ignore_orientation' in each LoadImageFromFile, or annotate turned photos"
    return f"{start}Set color_type='color' and imdecode_backend='cv2' in each LoadImageFromFile"


@dataclass(frozen=True)
class _Header:
    loaded: tuple[int, int]  # width and height
    tagged: bool  # with a quarter turn
    turned: bool  # when it is loaded
    channels: int | None
    bits: int


def _read_header(path: str, loading: ImageLoading, turning: dict[str, bool]) -> _Header | None:
    """Read the header of an image; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            size, kind = image.size, str(image.format)
            # in a PNG file the tag may be at the end, and reading it would decode all pixels
            has_tags = kind != 'PNG' or 'exif' in image.info
            tagged = has_tags and image.getexif().get(ORIENTATION) in QUARTER_TURNS
            if tagged and loading.color_type is not None and kind not in turning and size[0] != size[1]:
                # whether an image is rotated depends on backend, format, flag and their versions
                pixels = mmcv.imread(path, flag=loading.color_type, backend=loading.backend)
                turning[kind] = pixels is not None and pixels.shape[:2] == size
            turned = tagged and turning.get(kind, False)
            return _Header(size[::-1] if turned else size, tagged, turned, loading.loaded_channels(image), _bits(image))
    except (OSError, ValueError, SyntaxError, ImportError, Image.DecompressionBombError):
        return None


def _is_loaded(path: str, loading: ImageLoading) -> bool:
    """Whether an image that Pillow cannot read can be loaded; True if that is unknown."""
    if loading.color_type is None or loading.skips_unreadable:
        return True
    try:
        return mmcv.imread(path, flag=loading.color_type, backend=loading.backend) is not None
    except (OSError, ValueError, SyntaxError):
        return False
    except Exception:  # an absent package, or a size beyond a limit
        return True


def _bits(image: Image.Image) -> int:
    """Bits per channel; 8 if the file does not state it."""
    if image.mode.startswith('I'):
        return 16
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
    is_deep = any(';16' in str(tile[3]) for tile in getattr(image, 'tile', ()))
    return 16 if is_deep else 8


def _sizes(paths: Mapping[str, str]) -> dict[str, int | None]:
    """Size of each file in bytes, None if it is missing; each folder is listed once, which is faster."""
    listings: dict[str, dict[str, os.DirEntry]] = {}
    sizes: dict[str, int | None] = {}
    for name, path in paths.items():
        folder, file = os.path.split(path)
        if folder not in listings:
            there = os.scandir(folder or '.') if os.path.isdir(folder or '.') else ()
            listings[folder] = {entry.name: entry for entry in there}
        entry = listings[folder].get(file)
        sizes[name] = None if entry is None else entry.stat().st_size
    return sizes


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'


def _some(names: Iterable[str]) -> str:
    return ', '.join(list(names)[:MAX_NAMED])
