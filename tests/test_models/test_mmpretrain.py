"""Runs the tests of mmpretrain's backbones, mmpretrain_cases.py, in a process of their own.

mmpretrain is optional. CI keeps it in a folder beside the environment, since a torchvision whose operators do not load
stops MMEngine from describing the environment at the start of each training.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / 'mmpretrain'
INSTALL = (
    f'{sys.executable} -m pip install --target {FOLDER} --no-deps --no-build-isolation -r requirements/mmpretrain-'
)


@pytest.mark.skipif(
    find_spec('mmpretrain') is None and not FOLDER.is_dir(),
    reason=f'no mmpretrain: {INSTALL}onedl.txt (or openmmlab.txt)',
)
def test_mmpretrain(root):
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', 'tests/test_models/mmpretrain_cases.py']
    env = dict(os.environ)
    if find_spec('mmpretrain') is None:
        command += ['-p', 'mmpretrain_env']
        env['PYTHONPATH'] = os.pathsep.join([str(FOLDER), str(root / 'tests')])
    result = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'skipped' not in result.stdout
