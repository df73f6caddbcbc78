"""Runs the tests that need mmpretrain, each file in a separate process.

mmpretrain is optional. `make pretrain` puts it into a separate folder, since a torchvision whose operators do
not load stops MMEngine from describing the environment at the start of each training.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmmutual.environment import MEND_MMPRETRAIN, MMPRETRAIN_FOLDER

CASES = sorted(path.name for path in Path(__file__).parent.joinpath('mmpretrain').glob('*_cases.py'))


@pytest.mark.skipif(
    find_spec('mmpretrain') is None and not MMPRETRAIN_FOLDER.is_dir(), reason=f'no mmpretrain: {MEND_MMPRETRAIN}'
)
@pytest.mark.parametrize('cases', CASES)
def test_mmpretrain(cases, root):
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-p', 'tests.support.mmpretrain_env']
    command.append(f'tests/integration/mmpretrain/{cases}')
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'skipped' not in result.stdout
