"""Files of the repository that pages and benchmarks name exist."""

import re
from pathlib import Path

import miniature
import mutants

PAGES = ('*.md', 'docs/*.md', 'examples/*.md', 'benchmarks/*.py')
OF_OTHERS = {('deploy.md', 'tools/deploy.py')}  # MMDeploy's
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]*')
COMMAND = re.compile(r'((?:tools|benchmarks|demo)/[a-z0-9_/]+\.py)((?:[^\n`|;&#\\]|\\\n)*)')
IMPORT = re.compile(r'^(?:from|import) ([\w.]+)', re.MULTILINE)
NAMED = re.compile(r'(?<![\w./-])(?:tests|tools|benchmarks|demo)/[a-z0-9_/]+\.(?:py|sh)\b')


def with_imports(root: Path, script: Path) -> str:
    """The source of a script, and of the modules of the repository that it imports."""
    source = script.read_text()
    files = [
        folder / f'{name.replace(".", "/")}.py'
        for name in IMPORT.findall(source)
        for folder in (root, script.parent, root / 'benchmarks')
    ]
    return '\n'.join([source, *(file.read_text() for file in files if file.is_file())])


def test_in_pages(root):
    pages = [page for pattern in PAGES for page in root.glob(pattern)]
    named = {(page.name, name) for page in pages for name in NAMED.findall(page.read_text())} - OF_OTHERS
    assert len(named) > 20
    assert [(page, name) for page, name in sorted(named) if not (root / name).is_file()] == []


def test_each_mutant_changes_one_place(root):
    texts = {file: (root / 'mmmutual' / file).read_text() for file, *_ in mutants.MUTANTS}
    assert [(file, old) for file, old, *_ in mutants.MUTANTS if texts[file].count(old) != 1] == []


def test_options_of_commands_in_pages(root):
    pages = [root / 'README.md', root / 'CONTRIBUTING.md', *root.glob('docs/*.md'), *root.glob('examples/*.md')]
    named = {
        (page.name, script, option)
        for page in pages
        for script, arguments in COMMAND.findall(page.read_text())
        for option in OPTION.findall(arguments)
        if (page.name, script) not in OF_OTHERS
    }
    assert len(named) > 20
    sources = {script: with_imports(root, root / script) for _, script, _ in named}
    assert [
        (page, script, option) for page, script, option in sorted(named) if f"'{option}'" not in sources[script]
    ] == []


def test_groups_of_the_miniature_in_pages(root):
    named = {group for page in root.glob('docs/*.md') for group in re.findall(r'--group (\w+)', page.read_text())}
    assert named and named <= {*miniature.GROUPS}


def test_in_the_map_of_slimming(root):
    """Each file of the room has its line."""
    folder = root / 'mmmutual' / 'slimming'
    named = re.findall(r'`(\w+\.py)`', (folder / '__init__.py').read_text())
    assert sorted(named) == sorted(path.name for path in folder.glob('*.py') if path.stem != '__init__')


def test_in_the_list_of_mutants(root):
    named = {name for file, _, _, tests in mutants.MUTANTS for name in (f'mmmutual/{file}', *tests)}
    assert [name for name in sorted(named) if not (root / name).is_file()] == []


def test_no_file_is_longer_than_300_lines(root):
    folders = ('benchmarks', 'configs', 'demo', 'docs', 'examples', 'mmmutual', 'tests', 'tools')
    files = [path for folder in folders for path in (root / folder).rglob('*') if path.suffix in ('.py', '.md', '.sh')]
    lengths = {path: len(path.read_text().splitlines()) for path in [*files, *root.glob('*.md')]}
    assert len(lengths) > 300 and not {path: length for path, length in lengths.items() if length > 300}
