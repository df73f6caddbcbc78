"""Compile and install mmcv for the CPU in less time: python tools/misc/build_mmcv.py requirements/onedl.txt.

Nearly all of the compiler's time goes into torch's headers, which each of mmcv's 78 source files reads again. In this
build two files include most of the others, so that the headers are read 9 times. The compiled code is the same.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SOURCES = Path('mmcv/ops/csrc/pytorch')
SEPARATE = {
    '.': {'pybind.cpp'},  # the module itself
    'cpu': {  # they define names that other files define too
        'bezier_align.cpp',
        'box_iou_quadri.cpp',
        'nms_quadri.cpp',
        'psamask.cpp',
        'roi_align_rotated.cpp',
        'rotated_feature_align.cpp',
    },
}
# Flags in the environment replace Python's own, including -O3: without -O2 RoIAlign and NMS run over twice as long.
FLAGS = '-O2 -g0'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compile and install the mmcv that a requirements file names')
    parser.add_argument('requirements', type=Path, help='a file with a line such as onedl-mmcv==2.3.6')
    parser.add_argument(
        '--jobs', type=int, default=os.cpu_count(), help='number of compiler processes; default: the number of cores'
    )
    return parser.parse_args()


def mmcv_requirement(path: Path) -> str:
    """The line of a requirements file that names mmcv, with its version."""
    found = re.search(r'^(onedl-)?mmcv==\S+', path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f'{path} has no line for mmcv with a version, such as onedl-mmcv==2.3.6')
    return found[0]


def join_sources(root: Path) -> None:
    """Let one source file of a folder include most of the others, in place.

    Args:
        root: Folder of mmcv's unpacked source distribution.
    """
    for folder, separate in SEPARATE.items():
        sources = root / SOURCES / folder
        (sources / 'joined').mkdir()
        names = sorted(path.name for path in sources.glob('*.cpp') if path.name not in separate)
        for name in names:
            (sources / name).rename(sources / 'joined' / name)
        (sources / 'joined.cpp').write_text(''.join(f'#include "joined/{name}"\n' for name in names))


def pip(*arguments: str | Path, **environment: str) -> None:
    """Run pip of this interpreter."""
    subprocess.run([sys.executable, '-m', 'pip', *map(str, arguments)], check=True, env={**os.environ, **environment})


def main() -> None:
    """Fetch, join, compile, install."""
    args = parse_args()
    requirement = mmcv_requirement(args.requirements)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip('download', '--no-deps', '--no-build-isolation', '--no-binary', ':all:', '-d', folder, requirement)
        with tarfile.open(next(folder.glob('*.tar.gz'))) as archive:
            archive.extractall(folder, filter='data')
        source = next(path for path in folder.iterdir() if path.is_dir())
        join_sources(source)
        options = dict(MMCV_WITH_OPS='1', MAX_JOBS=str(args.jobs), CFLAGS=FLAGS, CXXFLAGS=FLAGS)
        pip('wheel', '-v', '--no-deps', '--no-build-isolation', '-w', folder / 'wheel', source, **options)
        pip('install', '--no-deps', '--no-index', '--find-links', folder / 'wheel', requirement)


if __name__ == '__main__':
    main()
