"""Hooks of mkdocs.yml: pages that are not files of docs/, and links that work on GitHub and in the site."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = (
    'Examples assume `import copy, mmmutual, torch`, a stock `detector`, a slimmable `model` and a query table `table`.'
)
# Fenced blocks first, so that a link is only found outside of them.
LINK = re.compile(r'^ *```.*?^ *```|(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))', re.S | re.M)


def rooms(package: Path = ROOT / 'mmmutual') -> list[str]:
    """Names of the package and of its folders that declare public names."""
    modules = [package / '__init__.py', *sorted(package.glob('*/__init__.py'))]
    return ['.'.join(m.parent.relative_to(package.parent).parts) for m in modules if public_names(m)]


def reference(room: str) -> str:
    """The page of the API reference for a room."""
    return f'# {room}\n\n{EXAMPLES}\n\n::: {room}\n'


def public_names(module: Path) -> list[str]:
    """The ``__all__`` of a module, read without importing it."""
    for node in ast.parse(module.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
            return ast.literal_eval(node.value)
    return []


def root_pages() -> dict[str, str]:
    """The documents at the root of the repository, mapped to their names in the site."""
    return {path.name: 'index.md' if path.stem == 'README' else path.name.lower() for path in ROOT.glob('*.md')}


def moved_link(target: str, source: str, repository: str) -> str:
    """A link of a document, as its page in the site needs it; a dead link stays, and MkDocs reports it.

    Args:
        target: Path from the folder of `source`, without anchor.
        source: Path of the document from the root of the repository.
        repository: Address of the repository.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = root_pages()
    if path in pages:
        page = pages[path]
    elif path.startswith('docs/'):
        page = path.removeprefix('docs/')
    elif (ROOT / path).exists():
        kind = 'tree' if (ROOT / path).is_dir() else 'blob'
        return f'{repository.rstrip("/")}/{kind}/main/{path}'
    else:
        return target
    here = pages.get(source, source.removeprefix('docs/'))
    return posixpath.relpath(page, posixpath.dirname(here) or '.')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents at the root, and a page of the API reference for each room."""
    from mkdocs.structure.files import File  # only the environment of the site has it

    for name, page in root_pages().items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding='utf-8')))
    for room in rooms():
        files.append(File.generated(config, f'reference/{room}.md', content=reference(room)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page."""
    names = {page_name: name for name, page_name in root_pages().items()}
    source = names.get(page.file.src_uri, f'docs/{page.file.src_uri}')

    def move(match: re.Match) -> str:
        if match['target'] is None:
            return match[0]
        return moved_link(match['target'], source, config.repo_url) + (match['anchor'] or '')

    return LINK.sub(move, markdown)
