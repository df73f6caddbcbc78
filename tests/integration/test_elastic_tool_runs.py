"""tools/elastic.py as a user runs it, and its results in the other tools."""

import json
import sys

import pytest
import torch

from mmmutual.checkpoint import narrow_widths, read_checkpoint
from mmmutual.config import build_model
from tests.integration.test_dist_tools import run, with_gloo
from tests.support.tiny import tiny_config
from tests.support.tools import load_tool

OPTIONS = ('--widths', 1, 0.5, '--scales', 1, 0.5, '--cfg-options', 'custom_hooks.3.num_batches=2')
ROWS = [['1', '1'], ['0.5', '1'], ['1', '0.5'], ['0.5', '0.5'], ['stock', '1']]


@pytest.fixture(scope='module')
def folder(tiny_data, tmp_path_factory):
    """A stock config and a checkpoint."""
    folder = tmp_path_factory.mktemp('elastic_runs')
    config = tiny_config(tiny_data, folder, 'stock_mask_rcnn_r18_shapes')
    config.log_level = 'INFO'
    config.dump(folder / 'stock.py')
    torch.save(dict(state_dict=build_model(config).state_dict()), folder / 'stock.pth')
    return folder


@pytest.fixture
def output_of(folder, monkeypatch, capsys):
    """The output of a tool in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv('RANK', raising=False)

    def output(tool: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        load_tool(tool).main()
        return ''.join(capsys.readouterr())

    return output


def table_of(text: str) -> list[list[str]]:
    """The rows of the last table of sub-networks in the output of a tool."""
    lines = [line.strip('|').split('|') for line in text.splitlines() if line.startswith('|')]
    cells = [[cell.strip() for cell in line] for line in lines]
    return cells[max(number for number, row in enumerate(cells) if row[0] == 'width') + 1 :]


@with_gloo
def test_without_an_epoch_in_two_processes_and_again_after_a_kill_in_the_evaluation(root, folder, output_of):
    first = run(root, folder, 'dist_elastic.sh', 'stock.py', 'stock.pth', 2, '--epochs', 0, *OPTIONS)
    assert first.returncode == 0, first.stderr
    stages = [line[:5] for line in first.stdout.splitlines() if line[:1] == '[' and line[2:5] == '/5]']
    assert stages == [f'[{number}/5]' for number in range(1, 6)]
    work = folder / 'work_dirs' / 'elastic_stock'
    checkpoint = read_checkpoint(work / 'epoch_0.pth')
    assert narrow_widths(checkpoint) == [0.5] and checkpoint['meta']['epoch'] == 0
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 4
    table = table_of(first.stdout)
    assert [row[:2] for row in table] == ROWS
    assert table[0][2] == table[-1][2]  # multiply-adds
    assert len(json.loads(next(work.glob('*/subnets.json')).read_text())) == 4
    again = output_of('elastic.py', 'stock.py', 'stock.pth', '--epochs', 0, *OPTIONS, '--resume')
    assert 'nothing is left to train: ' in again and 'is epoch 0 of 0' in again
    assert table_of(again) == table
    assert len(list((work / 'stock').glob('20*'))) == 1  # the stock detector was evaluated once


def test_a_run_resumed_after_its_first_epoch_and_its_results_in_another_tool(folder, output_of):
    command = ('elastic.py', 'stock.py', 'stock.pth', '--epochs', 2, '--work-dir', 'two', *OPTIONS)
    whole = output_of(*command)
    assert '[3/5] ordering the channels, training (max_epochs=2, lr=0.002), calibrating' in whole
    assert 'ChannelOrderHook ordered' in whole
    assert 'query_table.py two/elastic_stock.py two/epoch_2.pth' in whole
    work = folder / 'two'
    config = (work / 'elastic_stock.py').read_text()
    (work / 'epoch_2.pth').rename(folder / 'whole.pth')
    (work / 'last_checkpoint').write_text('two/epoch_1.pth')
    again = output_of(*command, '--resume')
    assert '[3/5] training (max_epochs=2, lr=0.002), calibrating, from two/epoch_1.pth' in again
    assert 'ChannelOrderHook ordered' not in again
    states = [read_checkpoint(path)['state_dict'] for path in (folder / 'whole.pth', work / 'epoch_2.pth')]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert (work / 'elastic_stock.py').read_text() == config
    assert [row[:2] for row in table_of(again)] == ROWS
    tested = output_of('test.py', 'two/elastic_stock.py', 'two/epoch_2.pth', '--work-dir', 'tested')
    assert table_of(tested) == table_of(whole)[:-1]
