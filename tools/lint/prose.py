"""Check the English of documents, docstrings, comments and messages against prose_rules.yml, with proselint."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml
from proselint.checks import __register__ as stock_checks
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags
from proselint.registry.checks.engine import Fancy, RegexOptions
from proselint.registry.checks.types import ExistenceSimple
from proselint.tools import LintFile

from prose_text import markdown_prose, python_prose

ROOT = Path(__file__).resolve().parents[2]
RULES = Path(__file__).with_name('prose_rules.yml')
FILES = [
    '*.md',
    'docs/**/*.md',
    'examples/**/*.md',
    '.github/**/*.md',
    '.github/ISSUE_TEMPLATE/*.yml',
    'mmmutual/**/*.py',
    'tools/**/*.py',
    'demo/**/*.py',
    'examples/**/*.py',
    'benchmarks/**/*.py',
    'configs/**/*.py',
    'tests/support/**/*.py',
    'conftest.py',
    'setup.py',
]
# Those of proselint's own checks that fit technical text.
STOCK = ['archaism', 'malapropisms', 'nonwords', 'redundancy', 'uncomparables']


class Finding(NamedTuple):
    """A place that a rule reports."""

    path: str
    line: int
    text: str
    message: str
    rule: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.text}": {self.message} [{self.rule}]'


class ProseLinter:
    """The rules of a file, as proselint's checks.

    Args:
        rules: Path of the rules.
    """

    def __init__(self, rules: Path = RULES) -> None:
        content = yaml.safe_load(rules.read_text(encoding='utf-8'))
        self.rules = {rule['name']: rule for rule in content['rules']}
        self.allow = content['allow']
        registry = CheckRegistry()
        registry.checks.clear()
        registry.register_many((*stock_checks, *map(_check, self.rules.values())))

    def lint(self, path: str, text: str) -> list[Finding]:
        """The findings in the text of a file.

        Args:
            path: Its path from the repository root; its suffix tells how to read `text`.
            text: Its content.
        """
        prose = python_prose(text) if path.endswith('.py') else markdown_prose(text)
        if not prose:
            return []  # LintFile cannot read an empty text
        checks = {f'mmmutual.{name}': path not in rule.get('skip', ()) for name, rule in self.rules.items()}
        config = {'max_errors': 1000, 'checks': checks | dict.fromkeys(STOCK, True)}
        found = []
        for result in LintFile(path, prose).lint(config):
            check, (start, end) = result.check_result, result.check_result.span
            rule = check.check_path.removeprefix('mmmutual.')
            # LintFile puts a line end before the text.
            start, end = max(start - 1, 0), end - 1
            phrase = ' '.join((text[start:end] + text[end : end + 25].partition('\n')[0]).split())
            line = prose.count('\n', 0, end) + 1
            if not self._allowed(path, text.splitlines()[line - 1], rule):
                found.append(Finding(path, line, phrase, check.message, rule))
        return found

    def _allowed(self, path: str, line: str, rule: str) -> bool:
        return any((path, rule) == (a['file'], a['rule']) and a['text'] in line for a in self.allow)


def _check(rule: dict) -> Check:
    kind = ExistenceSimple(
        rule['avoid'].replace(' ', r'\s+'), tuple(u.replace(' ', r'\s+') for u in rule.get('unless', ()))
    )
    engine = Fancy(RegexOptions(case_insensitive=not rule.get('case', False), multi_line=True))
    message = f'write {rule["write"]}'.replace('{', '{{').replace('}', '}}')
    return Check(kind, engine, f'mmmutual.{rule["name"]}', message, CheckFlags(allow_quotes=True))


def tracked_files(root: Path) -> list[str]:
    """The files that Git tracks or would add, by their paths from the repository root."""
    command = ['git', 'ls-files', '-co', '--exclude-standard', '--', *(f':(glob){pattern}' for pattern in FILES)]
    files = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split('\n')
    return sorted({f for f in files if f and (root / f).is_file()})


def main() -> int:
    """Print the findings; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('paths', nargs='*', type=Path, help='files or folders to check (default: the repository)')
    parser.add_argument('--root', type=Path, default=ROOT, help='the repository (default: that of this file)')
    args = parser.parse_args()
    root = args.root.resolve()
    paths = [path.resolve() for path in args.paths] or [root]
    files = [str(path.relative_to(root)) for path in paths if path.is_file()]
    folders = {path for path in paths if path.is_dir()}
    files += [file for file in tracked_files(root) if folders & {*(root / file).parents}] if folders else []
    linter = ProseLinter()
    found = [finding for f in files for finding in linter.lint(f, (root / f).read_text(encoding='utf-8'))]
    print(*found, f'{len(files)} files checked, {len(found)} findings', sep='\n')
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())
