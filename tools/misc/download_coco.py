"""Fetch, check and unpack COCO 2017 (about 20.4 GB of zips, 21 GB unpacked).

    python tools/misc/download_coco.py --root data/coco

ROOT then has ``annotations/instances_{train,val}2017.json``, ``train2017/*.jpg`` and
``val2017/*.jpg``. If a run is interrupted, the same command continues it.
"""

import argparse
import json
import os
import shutil
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from resumable_download import CHUNK, discard, download, size_of


@dataclass(frozen=True)
class Part:
    """One zip of COCO, and the files that ROOT must have after unpacking."""

    name: str
    url_path: str
    md5: str
    zip_bytes: int  # this field and the next are for the check of the disk space
    unpacked_bytes: int  # an estimate, rounded up to cover file system blocks
    pattern: str
    count: int  # of files that match pattern, at least
    names: tuple[str, ...] = ()
    listing: str = ''  # annotation file with the names, if it exists


# The MD5s of the zips on images.cocodataset.org. Many public projects state the same ones,
# for example PaddleDetection (ppdet/utils/download.py).
# Annotations come first: they name the images of the other parts.
PARTS = (
    Part(
        'annotations',
        'annotations/annotations_trainval2017.zip',
        'f4bbac642086de4f52a3fdda2de5fa2c',
        252_907_541,
        850_000_000,
        'annotations/*2017.json',
        2,
        names=('instances_train2017.json', 'instances_val2017.json'),
    ),
    Part(
        'val',
        'zips/val2017.zip',
        '442b8da7639aecaf257c1dceb8ba8c80',
        815_585_330,
        850_000_000,
        'val2017/*.jpg',
        5000,
        listing='annotations/instances_val2017.json',
    ),
    Part(
        'train',
        'zips/train2017.zip',
        'cced6f7f71b7629ddf16f17bbcfab6b2',
        19_336_861_798,
        20_000_000_000,
        'train2017/*.jpg',
        118287,
        listing='annotations/instances_train2017.json',
    ),
)


def missing(part: Part, root: Path) -> str:
    """Describe the files of ``part`` that are missing under ``root``; empty if all exist."""
    found = {path.name for path in root.glob(part.pattern)}
    if len(found) < part.count:
        return f'{len(found)} of {part.count} files {root / part.pattern} are there'
    names, listing = set(part.names), root / part.listing
    if part.listing and listing.is_file():
        try:
            names = {image['file_name'] for image in json.loads(listing.read_bytes())['images']}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{listing} is not a COCO annotation file ({error!r}); delete it and '
                'run again with annotations among --parts'
            ) from error
    lost = sorted(names - found)
    return f'{len(lost)} files are not in {root / part.pattern}, first {lost[0]}' if lost else ''


def check_disk(parts: list[Part], root: Path, keep_zips: bool):
    """Raise ValueError if the disk of ``root`` has less space than ``parts`` still need."""
    zips, unpacked = [0], 0
    for part in parts:
        # The files of an earlier run already have their space.
        zips.append(part.zip_bytes - sum(map(size_of, root.glob(f'{Path(part.url_path).name}*'))))
        unpacked += max(0, part.unpacked_bytes - sum(map(size_of, root.glob(part.pattern))))
    # Each zip is deleted before the next one is fetched, unless zips are kept.
    need = unpacked + (sum(zips) if keep_zips else max(zips))
    free = shutil.disk_usage(root).free
    if need > free:
        raise ValueError(
            f"--root '{root}' has {free / 1e9:.2f} GB free, "
            f'{" ".join(part.name for part in parts)} need {need / 1e9:.2f} GB; free '
            'some space, pass another --root or fewer --parts'
        )


def extract(path: Path, root: Path):
    """Unpack a zip into ``root``; existing files of the right size are kept.

    Raises:
        ValueError: If the zip is damaged or has a member that would be written outside ``root``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in members:
                # Check names only: a folder under ROOT may be a link to another disk.
                if Path(os.path.abspath(root)) not in Path(os.path.abspath(root / member.filename)).parents:
                    raise zipfile.BadZipFile(f"'{member.filename}' would be written outside '{root}'")
            for member in tqdm(members, desc=f'unpack {path.name}', unit='file'):
                target = root / member.filename
                if target.is_file() and size_of(target) == member.file_size:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                temp = Path(f'{target}.tmp')
                try:
                    with archive.open(member) as source, open(temp, 'wb') as sink:
                        shutil.copyfileobj(source, sink, CHUNK)  # checks the CRC at the end
                    os.replace(temp, target)
                finally:
                    temp.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        discard(path, str(error))


def fetch(parts: list[Part], root: Path, base_url: str, keep_zips: bool):
    """Fetch all ``parts`` to ``root``, except for those that are complete."""
    if not base_url.startswith(('http://', 'https://')):
        raise ValueError(f"--base-url '{base_url}' must start with http:// or https://")
    root.mkdir(parents=True, exist_ok=True)
    check_disk([part for part in parts if missing(part, root)], root, keep_zips)
    for part in parts:
        if not missing(part, root):
            print(f'{part.name}: already complete')
            continue
        path = root / Path(part.url_path).name
        download(f'{base_url.rstrip("/")}/{part.url_path}', path, part.md5)
        extract(path, root)
        if lack := missing(part, root):
            raise ValueError(
                f'{part.name} is not complete: {lack}; pass an empty --root, or '
                'delete files in it that are not from COCO 2017, then run again'
            )
        if not keep_zips:
            path.unlink()


def main(argv: list[str] | None = None, parts: tuple[Part, ...] = PARTS):
    """Fetch, check and unpack the requested parts."""
    names = [part.name for part in parts]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=Path, default=Path('data/coco'), help='folder of COCO; default: data/coco')
    parser.add_argument('--parts', nargs='+', choices=names, default=names, help='default: all parts')
    parser.add_argument('--base-url', default='http://images.cocodataset.org', help='server of the zips')
    parser.add_argument('--keep-zips', action='store_true', help='do not delete unpacked zips')
    args = parser.parse_args(argv)
    try:
        fetch([part for part in parts if part.name in args.parts], args.root, args.base_url, args.keep_zips)
    except ValueError as error:
        sys.exit(f'download_coco.py: {error}')
    except OSError as error:
        sys.exit(
            f"download_coco.py: --root '{args.root}' could not be written: {error}; check "
            'its permissions and free space, then run the same command again to continue'
        )
    except KeyboardInterrupt:
        sys.exit('download_coco.py: stopped; run the same command again to continue')


if __name__ == '__main__':
    main()
