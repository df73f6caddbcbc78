"""A checkpoint that runs code when it is unpickled runs none in any tool or API that loads checkpoints."""

import os
import runpy
import shutil
import sys

import pytest
import torch
from mmengine.config import Config

from mmmutual.checkpoint import read_checkpoint
from mmmutual.engine import prepare
from mmmutual.evaluation import fill_query_table
from mmmutual.inference import AdaptiveInferencer
from tests.support.tiny import tiny_config

REFUSED = 'cannot be read: it is cut short, damaged or has objects other than weights and numbers'


class Bait:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def executed(tmp_path):
    """The folder that is there if code ran."""
    return tmp_path / 'executed'


@pytest.fixture
def checkpoint(executed, tmp_path):
    """All that a run's checkpoint has, with a bait among it."""
    path = tmp_path / 'work' / 'epoch_1.pth'
    path.parent.mkdir()
    torch.save(
        dict(
            state_dict=dict(weight=torch.ones(1)), meta=dict(epoch=1, iter=4), message_hub={}, optimizer=Bait(executed)
        ),
        path,
    )
    (path.parent / 'last_checkpoint').write_text(str(path))
    return path


@pytest.fixture
def config(tiny_data, tmp_path):
    """A config file whose work dir holds the checkpoint."""
    config = tiny_config(tiny_data, tmp_path / 'work')
    path = tmp_path / 'config.py'
    config.dump(path)
    return path


def tool(root, monkeypatch, capsys, name: str, *arguments) -> str:
    """Output of a tool on stderr when it refuses its input."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(root / 'tools' / name), run_name='__main__')
    assert end.value.code == 1
    return capsys.readouterr().err


TOOLS = {
    'train --resume': ('train.py', '{config}', '--resume'),
    'train --resume FILE': ('train.py', '{config}', '--resume', '{checkpoint}'),
    'train load_from': ('train.py', '{config}', '--cfg-options', 'load_from={checkpoint}'),
    'train init_cfg': (
        'train.py',
        '{config}',
        '--cfg-options',
        'model.neck.init_cfg.type=Pretrained',
        'model.neck.init_cfg.checkpoint={checkpoint}',
    ),
    'test': ('test.py', '{config}', '{checkpoint}'),
    'calibrate': ('misc/calibrate.py', '{config}', '{checkpoint}', '-o', '{folder}/out.pth'),
    'show_widths': ('analysis_tools/show_widths.py', '{config}', '{checkpoint}'),
    'query_table': ('analysis_tools/query_table.py', '{config}', '{checkpoint}'),
    'export_subnet': ('model_converters/export_subnet.py', '{config}', '{checkpoint}', '--width', '0.5'),
}


@pytest.mark.parametrize('command', TOOLS.values(), ids=TOOLS)
def test_no_tool_executes_it(command, root, config, checkpoint, executed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = (part.format(config=config, checkpoint=checkpoint, folder=tmp_path) for part in command)
    message = tool(root, monkeypatch, capsys, name, *arguments)
    assert f'error: the checkpoint {checkpoint} {REFUSED}' in message
    assert not executed.exists()


APIS = {
    'read_checkpoint': lambda config, checkpoint: read_checkpoint(checkpoint),
    'AdaptiveInferencer': lambda config, checkpoint: AdaptiveInferencer(str(config), checkpoint, device='cpu'),
    'fill_query_table': lambda config, checkpoint: fill_query_table(
        Config.fromfile(config), checkpoint, checkpoint.with_name('table.json')
    ),
}


@pytest.mark.parametrize('load', APIS.values(), ids=APIS)
def test_no_api_executes_it(load, config, checkpoint, executed):
    with pytest.raises(ValueError, match=REFUSED):
        load(config, checkpoint)
    assert not executed.exists()


def test_initial_weights_of_any_part(checkpoint, executed):
    part = dict(init_cfg=[dict(type='Normal'), dict(type='Pretrained', checkpoint=str(checkpoint), prefix='teacher.')])
    for model in (dict(neck=part), dict(teacher=dict(backbone=part)), dict(heads=[part])):
        with pytest.raises(ValueError, match=REFUSED):
            prepare(Config(dict(model=model)), ('train',))
    assert not executed.exists()


def test_the_bait_works(checkpoint, executed):
    """Or the tests above would show nothing."""
    torch.load(checkpoint, weights_only=False)
    assert executed.exists()


def test_resuming_goes_on_from_the_one_before(root, config, checkpoint, executed, monkeypatch, capsys):
    """A damaged newest checkpoint does not stop a run that has an older one."""
    older = checkpoint.with_name('epoch_0.pth')
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), older)
    shutil.copystat(checkpoint, older)
    message = tool(root, monkeypatch, capsys, 'train.py', config, '--resume')
    assert f'left out: the checkpoint {checkpoint} {REFUSED}' in message
    assert f'error: the checkpoint {older} has weights but no state of a run to resume' in message
    assert not executed.exists()
