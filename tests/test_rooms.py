"""The rooms import each other in one direction, and plotting is imported only when something is plotted."""

import ast
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from conftest import collect_ignore


def lint_imports(folder: Path) -> str:
    """The report of import-linter about the package in a folder."""
    command = [sys.executable, '-c', 'from importlinter.cli import lint_imports_command; lint_imports_command()']
    return subprocess.run([*command, '--no-cache'], cwd=folder, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(root, tmp_path) -> Path:
    shutil.copytree(root / 'mmmutual', tmp_path / 'mmmutual', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(root / 'pyproject.toml', tmp_path)
    return tmp_path


def test_the_contracts_are_kept(checkout):
    assert '4 kept, 0 broken' in lint_imports(checkout)


@pytest.mark.parametrize(
    ('file', 'statement', 'broken'),
    [
        ('layers/width.py', 'import mmmutual.models', 'A room imports only rooms below it'),
        ('new_room/__init__.py', '', 'A room imports only rooms below it'),
        ('layers/width.py', 'from .swap import swap_', 'No cycles between rooms, nor between the files of a room'),
        ('engine/launch.py', 'import matplotlib.pyplot', 'Training does not plot'),
        ('engine/launch.py', 'import mmmutual.evaluation', 'Training does not plot'),
        ('inference/image_folder.py', 'import matplotlib', 'Only mmmutual.evaluation.plotting imports matplotlib'),
    ],
)
def test_each_contract_can_fail(checkout, file, statement, broken):
    path = checkout / 'mmmutual' / file
    path.parent.mkdir(exist_ok=True)
    with path.open('a') as stream:
        stream.write(f'\n{statement}\n')
    assert f'{broken} BROKEN' in lint_imports(checkout)


def test_no_files_import_each_other_in_a_circle():
    graph = grimp.build_graph('mmmutual', cache_dir=None)
    assert len(graph.modules) > 100
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


@pytest.mark.integration
def test_importing_the_package_imports_no_plotting():
    """MMDetection itself imports matplotlib, so ``sys.modules`` cannot show which module imported it."""
    code = """
import builtins, sys
importers, stock = set(), builtins.__import__
def recorded(name, globals=None, *rest, **named):
    if name.partition('.')[0] == 'matplotlib':
        importers.add((globals or {}).get('__name__', ''))
    return stock(name, globals, *rest, **named)
builtins.__import__ = recorded
import mmmutual
print(*(name for name in importers if name.startswith('mmmutual')))
print(*(name for name in sys.modules if name.startswith('mmmutual.evaluation.plotting')))
import mmmutual.evaluation.plotting
print(any(name.startswith('mmmutual.evaluation.plotting') for name in importers))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-3:] == ['', '', 'True'], result.stderr


def test_modules_that_need_mmpretrain_are_not_collected_for_their_examples(root):
    packages = [path.relative_to(root).as_posix() for path in (root / 'mmmutual').rglob('*.py') if needs(path)]
    assert len(packages) > 2
    assert [path for path in packages if not path.startswith(tuple(collect_ignore))] == []


def needs(path: Path, package: str = 'mmpretrain') -> bool:
    """Whether an import of the file imports the package."""
    statements = ast.parse(path.read_text()).body
    names = [alias.name for each in statements if isinstance(each, ast.Import) for alias in each.names]
    names += [each.module or '' for each in statements if isinstance(each, ast.ImportFrom) and not each.level]
    return any(name.split('.')[0] == package for name in names)
