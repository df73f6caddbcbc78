"""Find private names of other packages in Python files, by their syntax, and private methods that classes override."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

FOLDERS = ('mmmutual', 'tools', 'demo', 'benchmarks')
PRIVATE = re.compile(r'_(?!_)\w*(?<!_)', re.ASCII)  # names such as ``_base_`` are public in MMEngine
DOCUMENTED = {'_replace', '_asdict'}  # public methods of named tuples
OWN = {'_swapped', '_forwards', '_channel_ids'}  # attributes that mmmutual adds to objects of other packages
OPTIONAL = (
    'mmmutual.classification',
    'mmmutual.layers.mmpretrain_layers',
    'mmmutual.slimming.rules_mmpretrain',
)  # they import mmpretrain, which may be absent
ADDED = {'_abc_impl', '_backward_cls', '_lock'}  # Python's and torch's metaclasses add these to classes, tqdm a lock
TEXT_METHODS = ('startswith', 'endswith', 'removeprefix', 'removesuffix', 'replace', 'partition')


class Use(NamedTuple):
    """A private name in a line of a file."""

    path: str
    line: int
    name: str


def overridden(package: ModuleType) -> dict[str, set[str]]:
    """The private methods that the classes of a package override, each with the names of the classes."""
    found: dict[str, set[str]] = {}
    folder = Path(package.__path__[0])
    for path in folder.rglob('*.py'):
        name = '.'.join(path.relative_to(folder.parent).with_suffix('').parts).removesuffix('.__init__')
        if name.startswith(OPTIONAL) or name.endswith('__main__'):
            continue
        module = import_module(name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == name:
                for method in _overridden_by(kind, package.__name__):
                    found.setdefault(method, set()).add(kind.__name__)
    return found


def _overridden_by(kind: type, package: str) -> Iterator[str]:
    others = [base for base in kind.__mro__ if base.__module__.partition('.')[0] != package]
    for name in vars(kind):
        if PRIVATE.fullmatch(name) and name not in ADDED and any(name in vars(base) for base in others):
            yield name


def private_names(root: Path, folders: Collection[str], overrides: Collection[str] = ()) -> list[Use]:
    """The uses of private names that none of the files defines, in imports, attributes, keywords and strings.

    Args:
        root: The repository.
        folders: Folders of it.
        overrides: Private methods that the files override: they count as names of other packages.

    Returns:
        The uses; an override itself is none.
    """
    trees = {path: ast.parse(path.read_text()) for folder in folders for path in sorted((root / folder).rglob('*.py'))}
    own = {name for tree in trees.values() for node in ast.walk(tree) for name in _defined(node)} | OWN
    return [
        Use(str(path.relative_to(root)), line, name)
        for path, tree in trees.items()
        for line, name in _used(tree)
        if PRIVATE.fullmatch(name) and name not in own - set(overrides) and name not in DOCUMENTED
    ]


def _defined(node: ast.AST) -> Iterator[str]:
    """Names that a node defines: functions, classes, arguments, variables, attributes of ``self``."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        if isinstance(node.value, ast.Name) and node.value.id == 'self':
            yield node.attr


def _used(node: ast.AST, text: bool = False) -> Iterator[tuple[int, str]]:
    """Lines and names that a tree uses; in a ``text`` strings are pieces, such as suffixes, and no names."""
    names: list[str] = []
    if isinstance(node, ast.ImportFrom):
        names = [*(node.module or '').split('.'), *(alias.name for alias in node.names)]
    elif isinstance(node, ast.Import):
        names = [part for alias in node.names for part in alias.name.split('.')]
    elif isinstance(node, ast.Attribute):
        names = [node.attr]
    elif isinstance(node, ast.keyword):
        names = [node.arg or '']
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not text:
        names = node.value.split('.')
    yield from ((node.lineno, name) for name in names)
    if isinstance(node, ast.Call):
        text = isinstance(node.func, ast.Attribute) and node.func.attr in TEXT_METHODS
    else:
        text = text or isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add))
    for child in ast.iter_child_nodes(node):
        yield from _used(child, text)


if __name__ == '__main__':  # python tests/private_names.py: the uses in this repository
    import mmmutual

    names = overridden(mmmutual)
    uses = private_names(Path(mmmutual.__file__).parents[1], FOLDERS, names)
    print(*(f'{use.path}:{use.line}: {use.name}' for use in uses), sep='\n')
    print(f'{len(uses)} uses, {sum(use.path != "mmmutual/upstream.py" for use in uses)} of them outside upstream.py')
