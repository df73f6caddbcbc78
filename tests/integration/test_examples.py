"""The examples and the notebook run with a few iterations, and print what their README shows."""

import json
import re
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from mmdet.registry import MODELS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / 'examples'
SMALL = ('--images', '8', '--val-images', '4', '--epochs', '1')


def run(name: str, *arguments: object) -> str:
    """The output of an example."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name='__main__')
    return printed.getvalue()


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """The work dir of two iterations."""
    folder = tmp_path_factory.mktemp('examples')
    printed = run('train_on_shapes.py', *SMALL, '--data', folder / 'shapes', '--work-dir', folder / 'work')
    assert f'checkpoint: {folder / "work" / "epoch_1.pth"}' in printed
    return folder / 'work'


def test_pick_by_budget(trained):
    printed = run('pick_by_budget.py', '--work-dir', trained, '--budget', 240e6, '--repeats', 1)
    best = re.search(r'best within 240 M: width ([\d.]+) at scale ([\d.]+): ([\d.]+) M multiply-adds', printed)
    assert float(best[3]) <= 240
    assert f'objects, found by width {best[1]} at scale {best[2]}' in printed


def test_export_subnetwork(trained):
    printed = run('export_subnetwork.py', '--work-dir', trained, '--width', 0.5)
    assert 'largest difference of the outputs: 0.0' in printed
    assert f'ResNet in {trained / "export" / "detector.py"}: ' in printed


def test_own_backbone_prints_what_the_readme_shows():
    try:
        printed = run('own_backbone.py')
    finally:
        MODELS.module_dict.pop('TwoBranches', None)
    shown = (EXAMPLES / 'README.md').read_text()
    lines = [line.rstrip() for line in printed.splitlines()]
    assert sum(line.startswith('width ') for line in lines) == 4
    assert all(line in shown for line in lines)


def test_the_readme_names_each_example_and_the_notebook():
    shown = (EXAMPLES / 'README.md').read_text()
    for path in EXAMPLES.iterdir():
        assert path.name == 'README.md' or path.suffix not in ('.py', '.ipynb') or f'({path.name})' in shown


@pytest.fixture
def notebook() -> dict:
    """The notebook's content."""
    return json.loads((EXAMPLES / 'mmmutual_colab.ipynb').read_text())


def test_the_notebook_is_of_format_4_without_outputs(notebook):
    assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 5)
    ids = [cell['id'] for cell in notebook['cells']]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r'[\w-]{1,64}', name) for name in ids)
    for cell in notebook['cells']:
        assert cell['cell_type'] in ('code', 'markdown')
        if cell['cell_type'] == 'code':
            assert cell['outputs'] == [] and cell['execution_count'] is None


def test_the_notebook_installs_from_files_of_the_repository(notebook):
    (install,) = (''.join(cell['source']) for cell in notebook['cells'] if cell['id'] == 'install')
    files = re.findall(r'(?:requirements|tools)/\S+', install)
    assert files and all((ROOT / name).is_file() for name in files)


def test_the_notebook_runs(notebook, tmp_path, monkeypatch):
    """All cells but the one that installs, with fewer images and iterations."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    cells = {cell['id']: ''.join(cell['source']) for cell in notebook['cells'] if cell['cell_type'] == 'code'}
    cells.pop('install')
    assert 'EPOCHS' in cells['settings']
    cells['settings'] = 'IMAGES, VAL_IMAGES, EPOCHS, REPEATS = 8, 4, 1, 1'
    names = {}
    exec('import matplotlib; matplotlib.use("Agg")', names)
    for name, source in cells.items():
        exec(compile(source, name, 'exec'), names)
    assert Path(names['checkpoint']).is_file()
    assert len(names['table'].rows()) == 12
    titles = [axis.get_title() for axis in names['figure'].axes]
    assert len(titles) == len(names['costs']) and all('width' in title for title in titles)
