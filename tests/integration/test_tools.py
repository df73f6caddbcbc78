"""The tools as a user runs them, on a tiny data set."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmmutual.checkpoint import read_checkpoint
from tests.support.tiny import tiny_config


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory, root):
    """A config file and the checkpoint that tools/train.py leaves."""
    folder = tmp_path_factory.mktemp('tools')
    config = tiny_config(tiny_data, folder / 'work')
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=2))
    config.default_hooks.checkpoint.interval = 1
    config.log_level = 'INFO'
    config.dump(folder / 'config.py')
    result = tool('train.py', folder / 'config.py', cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def tool(name: str, *arguments, cwd) -> subprocess.CompletedProcess:
    path = os.path.join(os.path.dirname(__file__), '..', '..', 'tools', name)
    command = [sys.executable, path, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)


def test_train_leaves_a_resumable_checkpoint(setting):
    checkpoint = read_checkpoint(setting / 'work' / 'epoch_1.pth')
    assert checkpoint['meta']['epoch'] == 1
    assert (setting / 'work' / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    result = tool('train.py', 'config.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=2', cwd=setting)
    assert result.returncode == 0, result.stderr
    assert 'resumed epoch: 1' in result.stdout + result.stderr
    assert read_checkpoint(setting / 'work' / 'epoch_2.pth')['meta']['epoch'] == 2


def test_test_prints_the_table_and_writes_table_and_plot(setting):
    arguments = ('--widths', 1.0, 0.25, '--scales', 1.0, 0.5, '--show-dir', 'shown', '--out', 'predictions.pkl')
    result = tool('test.py', 'config.py', 'work/epoch_1.pth', *arguments, cwd=setting)
    assert result.returncode == 0, result.stderr
    text = result.stdout + result.stderr
    assert '| width | scale | multiply-adds | box mAP | mask mAP |' in text and 'was trained with the cl' not in text
    rows = json.loads(next((setting / 'work').rglob('subnets.json')).read_text())
    assert [(row['width'], row['scale']) for row in rows] == [(1.0, 1.0), (0.25, 1.0), (1.0, 0.5), (0.25, 0.5)]
    assert 'subnets.png' in text and next((setting / 'work').rglob('subnets.png')).is_file()
    assert len(list((setting / 'work').rglob('shown/*.png')) or list((setting / 'shown').rglob('*.png'))) == 4
    assert {path.name for path in setting.glob('*.pkl')} == {
        'predictions.pkl', 'predictions_w0.25_s1.pkl', 'predictions_w1_s0.5.pkl', 'predictions_w0.25_s0.5.pkl'
    }  # fmt: skip


def test_test_evaluates_under_an_ema_hook_and_names_other_classes(setting):
    checkpoint = torch.load(setting / 'work' / 'epoch_1.pth', weights_only=True)
    checkpoint['meta']['dataset_meta']['classes'] = ['a', 'b', 'c', 'd']
    torch.save(checkpoint, setting / 'other_classes.pth')
    config = Config.fromfile(setting / 'config.py')
    config.custom_hooks.append(dict(type='EMAHook'))
    config.dump(setting / 'ema.py')
    result = tool('test.py', 'ema.py', 'other_classes.pth', '--widths', 0.5, '--scales', 1.0, cwd=setting)
    assert result.returncode == 0, result.stderr
    text = result.stdout + result.stderr
    assert '|   0.5 |     1 |' in text
    assert "other_classes.pth was trained with the classes ['a', 'b', 'c', 'd'], but the test data set of the" in text


def test_calibrate_adds_widths_that_test_then_knows(setting):
    result = tool(
        'misc/calibrate.py',
        'config.py',
        'work/epoch_1.pth',
        '-o',
        'more.pth',
        '--widths',
        0.6,
        '--num-batches',
        2,
        cwd=setting,
    )
    assert result.returncode == 0, result.stderr
    assert 'more.pth: widths 1, 0.75, 0.6, 0.5, 0.25' in result.stdout
    before, after = (read_checkpoint(setting / name)['state_dict'] for name in ('work/epoch_1.pth', 'more.pth'))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    result = tool('test.py', 'config.py', 'more.pth', '--widths', 0.6, '--scales', 1.0, cwd=setting)
    assert result.returncode == 0, result.stderr
    result = tool('test.py', 'config.py', 'work/epoch_1.pth', '--widths', 0.6, '--scales', 1.0, cwd=setting)
    assert result.returncode == 1
    assert 'width 0.6 has no batch-norm statistics' in result.stderr


def test_show_widths_draws_a_picture(setting):
    result = tool(
        'analysis_tools/show_widths.py',
        'config.py',
        'work/epoch_1.pth',
        '--images',
        0,
        3,
        '--score-thr',
        0.05,
        cwd=setting,
    )
    assert result.returncode == 0, result.stderr
    assert 'picture: work/widths.png' in result.stdout.replace(f'{setting}/', '')
    assert (setting / 'work' / 'widths.png').stat().st_size > 10_000
    result = tool('analysis_tools/show_widths.py', 'config.py', 'work/epoch_1.pth', '--images', 4, cwd=setting)
    assert (result.returncode, 'error: --images 4: the test data has 4 images' in result.stderr) == (1, True)


def test_a_stock_config_trains_with_one_option(setting):
    config = Config.fromfile(setting / 'config.py')
    config.model.backbone = {**config.model.backbone, 'type': 'ResNet'}
    config.model.backbone.pop('widths')
    config.model.neck.type = 'FPN'
    config.custom_imports, config.custom_hooks = None, []
    config.val_cfg, config.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    config.log_processor = dict(type='LogProcessor', by_epoch=True)
    config.train_cfg.val_interval = 1
    config.dump(setting / 'stock.py')
    grid = ('--widths', 1, 0.5, 0.25, '--scales', 1, 0.5)
    result = tool('train.py', 'stock.py', '--mutual', *grid, '--work-dir', 'mutual', cwd=setting)
    assert result.returncode == 0, result.stderr
    assert '~ model.type: MaskRCNN -> SlimmableDetector' in result.stdout
    assert '+ model.widths: (1.0, 0.5, 0.25)' in result.stdout and '+ test_cfg.scales: (1.0, 0.5)' in result.stdout
    share = r'slims \d+ % of the multiply-adds of the detector \(scope backbone\)'
    assert re.search(share, result.stdout)
    assert '|   0.5 |     1 |' in result.stdout + result.stderr
    result = tool('misc/make_mutual_config.py', 'stock.py', '-o', 'made.py', '--widths', 1, 0.25, cwd=setting)
    assert result.returncode == 0, result.stderr
    assert re.search(share, result.stdout) and result.stdout.endswith('config: made.py\n')
    assert Config.fromfile(setting / 'made.py').model.widths == (1.0, 0.25)
    result = tool('test.py', 'made.py', 'work/epoch_1.pth', '--widths', 0.25, '--scales', 1.0, cwd=setting)
    assert result.returncode == 0 and '|  0.25 |     1 |' in result.stdout + result.stderr, result.stderr
    result = tool('test.py', 'made.py', 'work/epoch_1.pth', '--scales', 1.0, cwd=setting)  # num_widths of its grid
    assert re.findall(r'\| +([\d.]+) \| +1 \|', result.stdout + result.stderr) == ['1', '0.25'], result.stderr
    result = tool('misc/make_mutual_config.py', 'stock.py', '--plan', '--scope', 'detector', cwd=setting)
    assert result.returncode == 0, result.stderr
    assert '| roi_head ' in result.stdout and '(scope detector)' in result.stdout
    result = tool('train.py', 'mmdet::nowhere/nothing.py', '--mutual', cwd=setting)
    assert result.returncode == 1 and 'error: there is no config mmdet::nowhere/nothing.py' in result.stderr


def test_wrong_options_are_one_sentence(setting):
    config = Config.fromfile(setting / 'config.py')
    config.test_cfg = dict(type='TestLoop')
    config.dump(setting / 'stock_loop.py')
    result = tool('test.py', 'stock_loop.py', 'work/epoch_1.pth', '--widths', 0.5, cwd=setting)
    assert result.returncode == 1
    assert "error: --widths needs test_cfg=dict(type='SubnetTestLoop', ...)" in result.stderr
    for name, values in (('widths', (1, 0.5)), ('scales', (0.5,))):
        result = tool('train.py', 'config.py', f'--{name}', *values, cwd=setting)
        assert result.returncode == 1 and 'Traceback' not in result.stderr
        assert f'error: --{name} {" ".join(str(float(value)) for value in values)} needs --mutual' in result.stderr
    assert 'Traceback' not in result.stderr
