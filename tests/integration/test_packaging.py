"""The wheel holds the package and, for mim, its configs; the source distribution builds the same wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import mmmutual

SOURCES = ('mmmutual', 'configs', 'tools', 'requirements', 'examples')
TEXTS = ('README.md', 'LICENSE', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CITATION.cff')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', *TEXTS)
NOT_EXTRAS = ('build', 'torch', 'docs')  # installed before the stack, or into a separate environment as mmpretrain's


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


@pytest.fixture(scope='module')
def metadata(wheels) -> Metadata:
    """The metadata of the wheel from the source distribution."""
    archive = zipfile.ZipFile(wheels['sdist'])
    (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
    return Metadata.from_email(archive.read(name))


def requirements(root: Path, *names: str) -> set[str]:
    """The requirements of files of the folder ``requirements``, without options."""
    lines = [line.split(' #')[0].strip() for name in names for line in (root / name).read_text().splitlines()]
    return {str(Requirement(line)) for line in lines if line and not line.startswith(('#', '-'))}


def test_both_wheels_hold_the_same_files(wheels):
    contents = []
    for wheel in wheels.values():
        archive = zipfile.ZipFile(wheel)
        contents.append({name: archive.read(name) for name in archive.namelist() if '.dist-info/' not in name})
    assert contents[0] == contents[1]


def test_the_wheel_holds_every_module_config_and_tool(wheels, root):
    names = set(zipfile.ZipFile(wheels['sdist']).namelist())
    assert 'mmmutual/py.typed' in names
    sources = [path.relative_to(root) for path in (root / 'mmmutual').rglob('*.py')]
    assert sources and {str(path) for path in sources} <= names
    for folder in ('configs', 'tools'):
        files = [path.relative_to(root) for path in (root / folder).rglob('*.py')]
        assert files and {f'mmmutual/.mim/{path}' for path in files} <= names
    assert not any(
        '__pycache__' in name or name.startswith(('tests/', 'configs/', 'tools/', 'examples/')) for name in names
    )


def test_the_model_index_leads_to_configs_that_load(wheels, tmp_path):
    zipfile.ZipFile(wheels['sdist']).extractall(tmp_path)
    mim = tmp_path / 'mmmutual' / '.mim'
    models = [
        model
        for file in yaml.safe_load((mim / 'model-index.yml').read_text())['Import']
        for model in yaml.safe_load((mim / file).read_text())['Models']
    ]
    configs = {path.stem for path in (mim / 'configs').glob('*.py') if not path.stem.endswith('_whole')}  # deprecated
    assert {Path(model['Config']).stem for model in models} == configs
    for model in models:
        assert model['Name'] == Path(model['Config']).stem  # mim finds configs by it
        assert Config.fromfile(mim / model['Config']).model.backbone


def test_the_source_distribution_holds_texts_and_examples(wheels, root):
    unpacked = wheels['sdist'].parent.parent / 'unpacked'
    (source,) = unpacked.iterdir()
    examples = [str(path.relative_to(root)) for path in (root / 'examples').iterdir() if path.is_file()]
    assert examples
    for name in (*TEXTS, *examples):
        assert (source / name).read_bytes() == (root / name).read_bytes()


def test_metadata_names_version_authors_license_and_urls(metadata, root):
    assert str(metadata.version) == mmmutual.__version__
    assert metadata.author == 'The mmmutual authors'
    assert metadata.license_expression == 'Apache-2.0'
    assert str(metadata.requires_python) == '>=3.10'
    assert metadata.description == (root / 'README.md').read_text()
    assert f'## [{metadata.version}]' in (root / 'CHANGELOG.md').read_text()
    citation = yaml.safe_load((root / 'CITATION.cff').read_text())
    assert metadata.project_urls['Repository'] == citation['repository-code']
    assert [author['name'] for author in citation['authors']] == [metadata.author]
    for name in ('Documentation', 'Changelog'):
        assert (root / metadata.project_urls[name].split('/main/')[1]).exists()


def test_each_file_of_requirements_is_an_extra(metadata, root):
    """An extra has the lines of the file of its name; that of the tests needs the export too."""
    found = {}
    for text in metadata.requires_dist:
        name, marker = str(text).split('; extra == ')
        found.setdefault(marker.strip('"'), set()).add(name)
    files = {path.stem: [f'requirements/{path.name}'] for path in (root / 'requirements').glob('*.txt')}
    files['tests'].append('requirements/deploy.txt')
    extras = {name for name in files if name not in NOT_EXTRAS and not name.startswith('mmpretrain')}
    assert found == {name: requirements(root, *files[name]) for name in extras}


def test_the_build_refuses_an_old_setuptools(root):
    code = "import runpy, setuptools; setuptools.__version__ = '65.5.0'; runpy.run_path('setup.py')"
    result = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == (
        'mmmutual is built with setuptools 77 or later, but 65.5.0 is installed: pip install -r requirements/build.txt'
    )
