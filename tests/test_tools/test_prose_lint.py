"""The rules of tools/lint/prose_rules.yml, and where they look."""

import subprocess
import sys

import pytest

from prose import ROOT, RULES, ProseLinter, tracked_files
from prose_text import markdown_prose, python_prose

LINTER = ProseLinter()


def lint(text, path='docs/page.md'):
    return [(finding.line, finding.rule) for finding in LINTER.lint(path, text)]


@pytest.mark.parametrize('rule', LINTER.rules.values(), ids=LINTER.rules)
def test_each_rule_reports_its_example(rule):
    found = LINTER.lint('docs/page.md', rule['fails'])
    assert [finding.rule for finding in found] == [rule['name']]
    assert found[0].message == 'write ' + rule['write']
    assert lint(rule['passes']) == []


def test_a_phrase_may_run_over_a_line_end():
    assert lint('One.\n\nThe file is\nno checkpoint.\n') == [(4, 'is-no')]


def test_one_of_proselints_own_checks():
    assert lint('It is thusly so.') == [(1, 'nonwords')]


def test_code_and_link_targets_of_documents_are_not_checked():
    assert lint('```python\ncells = anew\n```\n\nUse `cells` and [that](docs/cells.md). <a href="cell"></a>\n') == []
    assert lint('    ```text\n    cells\n    ```\n\nA cell.\n') == [(5, 'cell')]


def test_docstrings_comments_and_messages_of_python_files():
    source = '''"""A cell."""
cells = anew  # a cell
x = ['cell', 'go_on']
raise ValueError('the file '
                 f'is no {cells}: it is '
                 'no checkpoint')
# noqa: cell says
# The file is
# no checkpoint.
'''
    assert lint(source, 'mmmutual/x.py') == [(1, 'cell'), (2, 'cell'), (6, 'is-no'), (9, 'is-no')]


@pytest.mark.parametrize(
    'prose, text', [(markdown_prose, 'A `b`.\n\n```\nc\n```\n'), (python_prose, 'a = """A b."""\n')]
)
def test_hidden_text_keeps_its_lines_and_length(prose, text):
    assert len(prose(text)) == len(text)
    assert prose(text).count('\n') == text.count('\n')


def test_an_empty_file_passes():
    assert lint('', '__init__.py') == []


def test_a_rule_skips_files():
    assert lint('It used to be slow.', 'CHANGELOG.md') == []


def test_an_allowed_line(tmp_path):
    rules = RULES.read_text() + '- {file: a.md, rule: cell, text: biology, reason: a field}\n'
    (tmp_path / 'rules.yml').write_text(rules)
    linter = ProseLinter(tmp_path / 'rules.yml')
    assert [f.line for f in linter.lint('a.md', 'A cell in biology.\nA cell.\n')] == [2]
    assert [f.line for f in linter.lint('b.md', 'A cell in biology.\n')] == [1]


def test_the_command_names_file_line_and_remedy(tmp_path):
    (tmp_path / 'README.md').write_text('# A\n\nA cell.\n')
    command = [sys.executable, ROOT / 'tools/lint/prose.py', '--root', tmp_path, tmp_path / 'README.md']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == 'README.md:3: "cell.": write "sub-network" [cell]\n1 files checked, 1 findings\n'


@pytest.mark.integration
def test_the_repository_has_no_findings():
    result = subprocess.run([sys.executable, ROOT / 'tools/lint/prose.py'], capture_output=True, text=True)
    assert result.stdout.endswith(' files checked, 0 findings\n'), result.stdout
    assert int(result.stdout.split()[0]) > 200


@pytest.mark.parametrize('path', ['README.md', 'examples/README.md', '.github/PULL_REQUEST_TEMPLATE.md', 'conftest.py'])
def test_the_linter_reads_by_default(path):
    assert path in tracked_files(ROOT)
