"""Checks of tools/elastic.py before it evaluates or trains."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from mmmutual.config import build_model
from tests.support.tiny import tiny_config
from tests.support.tools import load_tool


@pytest.fixture(scope='module')
def folder(tiny_data, tmp_path_factory):
    """A stock config, and checkpoints: one that fits, and one for each reason not to order its channels."""
    folder = tmp_path_factory.mktemp('elastic')
    config = tiny_config(tiny_data, folder, 'stock_mask_rcnn_r18_shapes')
    config.pop('work_dir')
    config.dump(folder / 'stock.py')
    Config({**config.to_dict(), 'auto_scale_lr': dict(base_batch_size=16)}).dump(folder / 'scaled.py')
    state = build_model(config).state_dict()
    torch.save(dict(state_dict=state, meta={}), folder / 'stock.pth')
    name = next(name for name in state if name.endswith('running_mean'))
    narrow = {**state, f'{name}_at_0.5': state[name][:16]}
    torch.save(dict(state_dict=narrow), folder / 'narrow.pth')
    torch.save(dict(state_dict={**state, 'rpn_head.rpn_cls.bias': torch.zeros(99)}), folder / 'other.pth')
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=['cat']))), folder / 'cat.pth')
    return folder


@pytest.fixture
def elastic(folder, monkeypatch) -> ModuleType:
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.chdir(folder)
    return load_tool('elastic.py')


@pytest.fixture
def read(elastic, monkeypatch):
    """The config that the tool makes from a command line."""

    def made(checkpoint: str, *options: object, config: str = 'stock.py') -> Config:
        monkeypatch.setattr(sys, 'argv', ['elastic.py', config, checkpoint, *map(str, options)])
        return elastic.read_config(elastic.parse_args())[0]

    return made


@pytest.fixture
def refused(elastic, folder, monkeypatch, capsys):
    """The sentence that the tool ends with; it does not write anything."""

    def message(*command: object) -> str:
        before = sorted(folder.rglob('*'))
        monkeypatch.setattr(sys, 'argv', ['elastic.py', *map(str, command)])
        with pytest.raises(SystemExit) as caught:
            elastic.main()
        assert caught.value.code == 1 and sorted(folder.rglob('*')) == before
        return re.search('^error: .*', capsys.readouterr().err, re.MULTILINE)[0]

    return message


def test_the_changes_are_printed_and_the_config_is_named_after_the_stock_one(read, capsys):
    config = read('stock.pth', '--epochs', 2, '--widths', 1, 0.5, '--amp')
    printed = capsys.readouterr().out
    assert '~ train_cfg.max_epochs: 1 -> 2' in printed and 'slims ' in printed
    assert config.filename == 'work_dirs/elastic_stock/elastic_stock.py'
    assert config.param_scheduler[-1].end == 8  # 2 epochs of 4 iterations
    assert config.optim_wrapper.type == 'AmpOptimWrapper' and config.model.widths == (1.0, 0.5)


def test_overrides_of_data_and_model_change_the_stock_config_and_others_the_elastic_one(read):
    options = ('train_dataloader.batch_size=4', 'optim_wrapper.optimizer.lr=0.01', 'custom_hooks.3.num_batches=7')
    config = read('stock.pth', '--cfg-options', *options)
    assert config.param_scheduler[-1].end == 2 and config.train_dataloader.batch_size == 4
    assert config.optim_wrapper.optimizer.lr == 0.01
    assert config.custom_hooks[3] == dict(type='BNCalibrationHook', num_batches=7)


@pytest.mark.parametrize(('options', 'first'), [
    ([], dict(type='ChannelOrderHook', importance='norm_scale')),
    (['--importance', 'l2'], dict(type='ChannelOrderHook', importance='l2')),
    (['--importance', 'none'], dict(type='IterationSeedHook')),
], ids=str)  # fmt: skip
def test_the_importance_orders_the_channels(options, first, read):
    assert read('stock.pth', *options).custom_hooks[0] == first


def test_a_slimmable_checkpoint_keeps_its_order(read, capsys):
    config = read('narrow.pth')
    assert 'narrow.pth is slimmable already (widths 0.5): its channels keep their order, and' in capsys.readouterr().out
    assert config.custom_hooks[0].type == 'IterationSeedHook' and config.load_from == 'narrow.pth'


@pytest.mark.parametrize(
    ('checkpoint', 'options', 'message'),
    [
        ('none.pth', [], 'there is no checkpoint file none.pth on this machine'),
        ('other.pth', [], 'the checkpoint other.pth has another architecture than the config: .* 1 have another shape'),
        ('cat.pth', [], r"the checkpoint cat.pth was trained with the classes \['cat'\], .*; docs/transfer.md trains"),
        ('stock.pth', ['--epochs', 1.5], 'epochs must be a whole number, but got 1.5'),
        (
            'stock.pth',
            ['--resume'],
            '--resume continues a run of this command, but there is none in ./work_dirs/elastic_stock: it has no '
            'run.json. Omit --resume, or pass the --work-dir of the run',
        ),
        (
            'stock.pth',
            ['--cfg-options', 'train_dataloader.dataset.ann_file=none.json'],
            'train_dataloader: there is no annotation file .*none.json',
        ),
    ],
    ids=str,
)
def test_wrong_input(checkpoint, options, message, refused):
    error = refused('stock.py', checkpoint, *options)
    assert re.match(f'error: {message}', error), error


def test_a_mutual_config(refused, tiny_data, folder):
    tiny_config(tiny_data, folder).dump(folder / 'mutual.py')
    assert refused('mutual.py', 'stock.pth').startswith(
        'error: config must be a stock config, but it is mutual already, since it has Slimmable'
    )


def test_a_network_that_cannot_be_ordered(refused, elastic, read, monkeypatch):
    def check_order(plan):
        raise ValueError('its layer auxiliary does not run')

    monkeypatch.setattr(elastic, 'check_order', check_order)
    assert refused('stock.py', 'stock.pth') == (
        'error: its layer auxiliary does not run. --importance none keeps the order'
    )
    assert read('stock.pth', '--importance', 'none').load_from == 'stock.pth'


@pytest.mark.parametrize(
    'option', ['load_from=a.pth', 'resume=True', 'train_cfg.max_epochs=3', 'train_cfg.max_iters=3']
)
def test_overrides_of_other_arguments(option, read):
    with pytest.raises(
        ValueError, match='is not allowed, since the training starts from CHECKPOINT and --epochs sets its length: omit'
    ):
        read('stock.pth', '--cfg-options', option)


@pytest.mark.parametrize(('options', 'work_dir'), [
    ([], './work_dirs/elastic_stock'),
    (['--cfg-options', 'work_dir=own'], 'own'),
    (['--work-dir', 'first', '--cfg-options', 'work_dir=own'], 'first'),
], ids=str)  # fmt: skip
def test_the_work_dir(options, work_dir, read):
    config = read('stock.pth', *options)
    assert config.work_dir == work_dir and Path(config.filename) == Path(work_dir) / 'elastic_stock.py'


def test_a_scaled_learning_rate(read):
    with pytest.raises(ValueError, match=r'--auto-scale-lr needs auto_scale_lr=dict\(base_batch_size=...\)'):
        read('stock.pth', '--auto-scale-lr')
    config = read('stock.pth', '--auto-scale-lr', config='scaled.py')
    assert config.auto_scale_lr == dict(base_batch_size=16, enable=True)


def test_a_run_is_recorded_and_not_overwritten(read, elastic, tmp_path, monkeypatch):
    config = read('stock.pth', '--work-dir', tmp_path)
    monkeypatch.setenv('RANK', '1')
    elastic.start_run(config, 'stock.pth')
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv('RANK', '0')
    assert elastic.start_run(config, 'stock.pth') == (config, None)
    run, finished = elastic.continue_run(read('stock.pth', '--work-dir', tmp_path), 'stock.pth')
    assert run.load_from == 'stock.pth' and finished is None
    other = read('stock.pth', '--work-dir', tmp_path, '--importance', 'l2', '--scales', 1, '--amp')
    with pytest.raises(ValueError, match='had another optim_wrapper, custom_hooks, test_cfg: repeat its command'):
        elastic.continue_run(other, 'stock.pth')
    (tmp_path / 'last_checkpoint').touch()
    with pytest.raises(ValueError, match='has a run already'):
        elastic.start_run(config, 'stock.pth')


def test_the_next_commands_can_be_copied(read, elastic, tmp_path):
    folder = tmp_path / 'my runs'
    config = read('stock.pth', '--work-dir', folder, '--widths', 1, 0.75, 0.375)
    folder.mkdir()
    torch.save(dict(state_dict={}), folder / 'epoch_1.pth')
    lines = elastic.results(config, folder).splitlines()
    inputs = [str(folder / 'elastic_stock.py'), str(folder / 'epoch_1.pth')]
    assert shlex.split(lines[-3])[2:] == inputs
    assert shlex.split(lines[-1])[2:] == [*inputs, '--width', '0.375']
