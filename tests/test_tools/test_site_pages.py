"""The site: links that work on GitHub and in it, a page for each room, and dead links that fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import site_pages

REPOSITORY = 'https://github.com/mmmutual/mmmutual'
DOCS_PYTHON = Path(sys.prefix) / 'docs' / 'bin' / 'python'


@pytest.mark.parametrize(
    'target, source, link',
    [
        ('docs/speed.md', 'README.md', 'speed.md'),
        ('docs/figures/how_it_works.svg', 'README.md', 'figures/how_it_works.svg'),
        ('../README.md', 'docs/speed.md', 'index.md'),
        ('results.md', 'docs/speed.md', 'results.md'),
        ('setup.py', 'README.md', REPOSITORY + '/blob/main/setup.py'),
        ('../configs', 'docs/speed.md', REPOSITORY + '/tree/main/configs'),
        ('../configs/absent.py', 'docs/speed.md', '../configs/absent.py'),
    ],
)
def test_links_of_documents(target, source, link):
    assert site_pages.moved_link(target, source, REPOSITORY) == link


def test_public_names_are_read_without_an_import(tmp_path):
    (tmp_path / 'module.py').write_text("import absent\n__all__ = ['A', 'b']\n")
    assert site_pages.public_names(tmp_path / 'module.py') == ['A', 'b']


def test_a_reference_page_names_what_its_examples_assume():
    page = site_pages.reference('mmmutual.layers')
    assert page.startswith('# mmmutual.layers\n\nExamples assume `import copy, mmmutual, torch`, a stock `detector`')
    assert page.endswith('\n\n::: mmmutual.layers\n')


def test_every_room_with_public_names_is_in_the_reference():
    assert {'mmmutual', 'mmmutual.engine', 'mmmutual.layers'} <= set(site_pages.rooms())
    config = (site_pages.ROOT / 'mkdocs.yml').read_text()
    assert [room for room in site_pages.rooms() if f'reference/{room}.md' not in config] == []


@pytest.fixture
def small_site(tmp_path):
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'mmmutual').mkdir()
    (tmp_path / 'mmmutual' / '__init__.py').write_text('"""A room."""\n\n__all__ = []\n')
    shutil.copytree(site_pages.ROOT / 'tools' / 'site', tmp_path / 'tools' / 'site')
    config = (site_pages.ROOT / 'mkdocs.yml').read_text()
    before, _, after = config.partition('\nnav:\n')
    nav = '\nnav:\n  - index.md\n  - a.md\n'
    (tmp_path / 'mkdocs.yml').write_text(before + nav + after[after.index('\nvalidation:') :])
    (tmp_path / 'README.md').write_text('# Title\n\n[a](docs/a.md#some-section)\n\n[own](#title)\n')
    (tmp_path / 'docs' / 'a.md').write_text('# A\n\n## Some section\n\n[back](../README.md) [hook](../tools/site)\n')
    return tmp_path


def build(folder):
    command = [DOCS_PYTHON, '-m', 'mkdocs', 'build', '--strict']
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'}, capture_output=True, text=True
    )
    return result.returncode, result.stderr


needs_docs = pytest.mark.skipif(not DOCS_PYTHON.exists(), reason='the tools of the site are not installed: make docs')


@needs_docs
def test_the_site_is_built(small_site):
    code, log = build(small_site)
    assert code == 0, log
    front = (small_site / 'site' / 'index.html').read_text()
    assert 'href="a/#some-section"' in front
    assert f'href="{REPOSITORY}/tree/main/tools/site"' in (small_site / 'site' / 'a' / 'index.html').read_text()


@needs_docs
@pytest.mark.parametrize(
    'text, warning',
    [
        ('[x](absent.md)', "link 'absent.md'"),
        ('[x](a.md#absent)', "link 'a.md#absent', but there is no such anchor"),
        ('[x](../README.md#absent)', "does not contain an anchor '#absent'"),
        ('[x](../configs/absent.py)', "link '../configs/absent.py'"),
        ('![x](figures/absent.png)', "link 'figures/absent.png'"),
    ],
)
def test_a_dead_link_fails(small_site, text, warning):
    with open(small_site / 'docs' / 'a.md', 'a') as file:
        file.write(text)
    code, log = build(small_site)
    assert code == 1
    assert warning in log


@needs_docs
def test_a_page_without_an_entry_fails(small_site):
    (small_site / 'docs' / 'b.md').write_text('# B\n')
    code, log = build(small_site)
    assert code == 1
    assert 'not included in the "nav" configuration' in log
