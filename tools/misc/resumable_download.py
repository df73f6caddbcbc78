"""Fetch a file over HTTP with retries, and check its MD5."""

import hashlib
import os
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte from the server
RETRIES = 5  # in a row without a new byte
BACKOFF = 1.0  # seconds before the first retry, doubled with each further one


class Dropped(Exception):
    """The transfer stopped early. The received bytes are kept, and another try continues from there."""


def size_of(path: Path) -> int:
    """Size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def discard(path: Path, reason: str):
    """Remove a damaged file, so that the next run fetches it again, and raise ValueError."""
    path.unlink()
    raise ValueError(f'{path} is damaged: {reason}; it was removed, run the same command again to fetch it')


def md5_of(path: Path) -> str:
    """MD5 of a file in hexadecimal, read with a progress bar."""
    digest = hashlib.md5()
    with open(path, 'rb') as file, tqdm.wrapattr(file, 'read', size_of(path), desc=f'check {path.name}') as source:
        while block := source.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def receive(url: str, path: Path, tag: Path, md5: str):
    """Make one request that adds the missing bytes to ``path``, or starts it again.

    ``tag`` contains the ETag or the date that the server's file had when the bytes in ``path`` were received.

    Raises:
        Dropped: If the transfer stopped before the end.
        ValueError: If the server has no such file or refuses it.
    """
    have, headers = size_of(path), {}
    stored = tag.read_text() if tag.is_file() else ''
    if have:
        headers['Range'] = f'bytes={have}-'
        if stored:
            headers['If-Range'] = stored
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:
            # Not every server adds the file's length to a 416, so the MD5 decides.
            if md5_of(path) == md5:
                return
            path.unlink()
            raise Dropped('no such range on the server') from error
        if error.code < 500:
            raise ValueError(
                f'{url} was answered {error.code} {error.reason}; check --base-url, '
                'it must serve the paths of http://images.cocodataset.org'
            ) from error
        raise Dropped(f'{error.code} {error.reason}') from error
    except (OSError, HTTPException) as error:
        raise Dropped(error) from error
    with response:
        resumed = response.status == 206
        span = response.headers.get('Content-Range', '')
        # If-Range does not accept a weak ETag.
        etag = response.headers.get('ETag', 'W/')
        fresh = response.headers.get('Last-Modified', '') if etag.startswith('W/') else etag
        # Some servers ignore If-Range or answer with another range.
        changed = stored and fresh and fresh != stored
        if resumed and (changed or not span.startswith(f'bytes {have}-')):
            path.unlink()
            raise Dropped('the file on the server has changed')
        total = span.rpartition('/')[2] if resumed else response.headers.get('Content-Length', '')
        total = int(total) if total.isdigit() else None
        with (
            open(path, 'ab' if resumed else 'wb') as file,
            tqdm.wrapattr(response, 'read', total, desc=path.stem, initial=file.tell()) as source,
        ):
            if not resumed:
                # Only after the old bytes are deleted: they must never exist together with the new tag.
                tag.write_text(fresh)
            while True:
                try:
                    block = source.read(CHUNK)
                except (OSError, HTTPException) as error:
                    raise Dropped(error) from error
                if not block:
                    break
                file.write(block)
    if total is not None and size_of(path) != total:
        raise Dropped(f'{size_of(path)} of {total} bytes arrived')


def receive_all(url: str, path: Path, tag: Path, md5: str):
    """Call receive until ``path`` is complete.

    Raises:
        ValueError: If the server cannot be reached, repeatedly stops the transfer, or does not have the file.
    """
    most, failures = size_of(path), 0
    while True:
        try:
            return receive(url, path, tag, md5)
        except Dropped as reason:
            # Only new bytes count as progress: a server without Range that always
            # drops the connection would otherwise cause endless requests.
            failures = 1 if size_of(path) > most else failures + 1
            most = max(most, size_of(path))
            if failures > RETRIES:
                raise ValueError(
                    f'{url} could not be fetched ({reason}); check the network and '
                    '--base-url, then run the same command again to continue from '
                    f'byte {size_of(path)}'
                ) from reason
            wait = BACKOFF * 2 ** (failures - 1)
            print(f'{path.name}: {reason}; trying again in {wait:.0f} s', file=sys.stderr)
            time.sleep(wait)


def download(url: str, target: Path, md5: str):
    """Fetch ``url`` into ``target``.part first, so that ``target`` is always a checked file.

    An existing ``target``, for example one copied by hand, is checked too.
    """
    path, tag = Path(f'{target}.part'), Path(f'{target}.part.tag')
    if target.is_file():
        path = target
    else:
        receive_all(url, path, tag, md5)
    tag.unlink(missing_ok=True)
    found = md5_of(path)
    if found != md5:
        discard(path, f'its MD5 is {found}, must be {md5}')
    os.replace(path, target)
