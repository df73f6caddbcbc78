"""The wheel holds the package and, for mim, its configs; the source distribution builds the same wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

SOURCES = ('mmmutual', 'configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml')


def build(kind: str, source: Path, out: Path) -> Path:
    """Call setuptools as pip does; ``kind`` is ``'wheel'`` or ``'sdist'``."""
    code = f'from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))'
    result = subprocess.run([sys.executable, '-c', code], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return out / result.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def wheels(root, tmp_path_factory) -> dict[str, Path]:
    """Wheels from the repository and from its source distribution."""
    folder = tmp_path_factory.mktemp('packaging')
    checkout = folder / 'checkout'
    for name in SOURCES:
        shutil.copytree(root / name, checkout / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in FILES:
        shutil.copy(root / name, checkout)
    (folder / 'sdist').mkdir()
    shutil.unpack_archive(build('sdist', checkout, folder / 'sdist'), folder / 'unpacked')
    (source,) = (folder / 'unpacked').iterdir()
    wheels = {}
    for kind, where in (('checkout', checkout), ('sdist', source)):
        (folder / f'wheel_{kind}').mkdir()
        wheels[kind] = build('wheel', where, folder / f'wheel_{kind}')
    return wheels


def test_both_wheels_hold_the_same_files(wheels):
    contents = []
    for wheel in wheels.values():
        archive = zipfile.ZipFile(wheel)
        contents.append({name: archive.read(name) for name in archive.namelist() if '.dist-info/' not in name})
    assert contents[0] == contents[1]


def test_the_wheel_holds_every_module_config_and_tool(wheels, root):
    names = set(zipfile.ZipFile(wheels['sdist']).namelist())
    sources = [path.relative_to(root) for path in (root / 'mmmutual').rglob('*.py')]
    assert sources and {str(path) for path in sources} <= names
    for folder in ('configs', 'tools'):
        files = [path.relative_to(root) for path in (root / folder).rglob('*.py')]
        assert files and {f'mmmutual/.mim/{path}' for path in files} <= names
    assert not any('__pycache__' in name or name.startswith(('tests/', 'configs/', 'tools/')) for name in names)


def test_the_model_index_leads_to_configs_that_load(wheels, tmp_path):
    zipfile.ZipFile(wheels['sdist']).extractall(tmp_path)
    mim = tmp_path / 'mmmutual' / '.mim'
    models = [
        model
        for file in yaml.safe_load((mim / 'model-index.yml').read_text())['Import']
        for model in yaml.safe_load((mim / file).read_text())['Models']
    ]
    assert {Path(model['Config']).stem for model in models} == {path.stem for path in (mim / 'configs').glob('*.py')}
    for model in models:
        assert model['Name'] == Path(model['Config']).stem  # mim finds configs by it
        assert Config.fromfile(mim / model['Config']).model.backbone
