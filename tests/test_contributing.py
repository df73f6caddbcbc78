"""Texts for contributors and workflows name make targets and files that exist."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from torch import nn

from mmmutual.layers import Segment
from mmmutual.slimming import plan_slimming

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / '.github'
TEXTS = ['CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'examples/README.md', '.github/PULL_REQUEST_TEMPLATE.md']
WORKFLOWS = sorted(path.relative_to(ROOT) for path in GITHUB.glob('workflows/*.yml'))
ACTIONS = sorted(path.relative_to(ROOT) for path in GITHUB.glob('actions/*/action.yml'))
CALL = re.compile(r'\bmake ((?:\w+=\S+ )*)([a-z.][\w./-]*)')
OLD = {'demo-whole'}  # the changelog names it as deprecated


def targets() -> set[str]:
    """The targets of the Makefile, with the default folder of the environment."""
    lines = (ROOT / 'Makefile').read_text().replace('$(VENV)', '.venv').splitlines()
    rules = [re.match(r'([\w./ -]+):(?!=)', line) for line in lines if not line.startswith('.PHONY')]
    return {name for rule in rules if rule for name in rule[1].split()}


def steps(path: Path) -> list[dict]:
    """The steps of a workflow or a composite action."""
    content = yaml.safe_load((ROOT / path).read_text())
    jobs = content['jobs'].values() if 'jobs' in content else [content['runs']]
    return [step for job in jobs for step in job['steps']]


@pytest.mark.parametrize('path', [*WORKFLOWS, *ACTIONS], ids=str)
def test_workflows_run_make_targets_only(path):
    commands = [step['run'] for step in steps(path) if 'run' in step]
    assert commands
    for command in commands:
        call = CALL.match(command)
        assert call and call[2] in targets(), command


@pytest.mark.parametrize('path', WORKFLOWS, ids=str)
def test_workflows_use_actions_of_a_version_or_of_the_repository(path):
    for action in [step['uses'] for step in steps(path) if 'uses' in step]:
        if action.startswith('./'):
            declared = yaml.safe_load((ROOT / action / 'action.yml').read_text())['inputs']
            given = [step.get('with', {}) for step in steps(path) if step.get('uses') == action]
            assert all(set(inputs) == set(declared) for inputs in given)
        else:
            assert re.fullmatch(r'actions/[\w-]+@v\d+', action)


def test_unit_tests_run_on_each_python_and_stack_of_the_metadata():
    unit = yaml.safe_load((GITHUB / 'workflows' / 'checks.yml').read_text())['jobs']['unit']
    matrix = unit['strategy']['matrix']
    classified = re.findall(r'Python :: (3\.\d+)"', (ROOT / 'pyproject.toml').read_text())
    assert matrix['python'] == classified
    assert all((ROOT / 'requirements' / f'{stack}.txt').is_file() for stack in matrix['stack'])
    assert all(entry['python'] in matrix['python'] and entry['stack'] in matrix['stack'] for entry in matrix['exclude'])


@pytest.mark.parametrize('name', TEXTS)
def test_texts_name_make_targets_that_exist(name):
    named = {call[2].rstrip('.') for call in CALL.finditer('\n'.join(code_of((ROOT / name).read_text())))}
    assert named - targets() <= OLD


@pytest.mark.parametrize('name', TEXTS)
def test_links_between_texts_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r'\]\(([^)]+)\)', text):
        file, _, anchor = target.partition('#')
        if '://' in target:
            continue
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), target


def test_code_of_contributing_runs(monkeypatch):
    monkeypatch.setattr('mmmutual.slimming.rules.RULES', {})
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'CONTRIBUTING.md').read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(dedent(block), names)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), names['Expanding'](16), nn.Conv2d(16, 8, 1))
    layers = {layer.name: layer.outputs for layer in plan_slimming(model).layers}
    assert layers['1.0'] == (Segment(96, 48),)


def test_issue_forms_ask_for_the_environment():
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (GITHUB / 'ISSUE_TEMPLATE').glob('*.yml')}
    assert set(forms) == {'bug_report', 'feature_request', 'config'}
    for name in ('bug_report', 'feature_request'):
        ids = [field['id'] for field in forms[name]['body']]
        assert len(set(ids)) == len(ids) and all(field['attributes']['label'] for field in forms[name]['body'])
    environment = next(field for field in forms['bug_report']['body'] if field['id'] == 'environment')
    assert 'python -m mmmutual' in environment['attributes']['description']
    assert environment['validations']['required']


def code_of(text: str) -> list[str]:
    """Code blocks and code within lines."""
    blocks = re.findall(r'```\w*\n(.*?)```', text, re.DOTALL)
    return blocks + re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', text, flags=re.DOTALL))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}
