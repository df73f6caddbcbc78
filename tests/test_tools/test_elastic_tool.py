"""Checks of tools/elastic.py before it evaluates or trains."""

import re
import sys
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from mmmutual.config import build_model, load_config
from tests.support.tiny import tiny_config
from tests.support.tools import load_tool


@pytest.fixture(scope='module')
def folder(tiny_data, tmp_path_factory):
    """A stock config, and checkpoints: one that fits, and one for each reason not to order its channels."""
    folder = tmp_path_factory.mktemp('elastic')
    config = tiny_config(tiny_data, folder, 'stock_mask_rcnn_r18_shapes')
    config.pop('work_dir')
    config.dump(folder / 'stock.py')
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
            'elastic_stock.py. Omit --resume, or pass the --work-dir of the run',
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


@pytest.fixture
def started(read, tmp_path) -> Config:
    """The config of a run that has begun."""
    config = read('stock.pth', '--work-dir', tmp_path)
    config.dump(config.filename)
    return config


def test_a_resumed_run_has_the_settings_of_its_first_command(started, elastic, tmp_path):
    assert elastic.check_resumed(started) == {} and started.load_from == 'stock.pth'
    started.train_cfg.max_epochs = 3
    with pytest.raises(
        ValueError,
        match='--resume continues a run of the same command, but that in .* had other settings in train_cfg: repeat '
        'its command, or choose another --work-dir',
    ):
        elastic.check_resumed(started)


def test_a_finished_training_is_only_evaluated(started, elastic, tmp_path):
    for epoch, resumed in ((0, True), (1, False)):
        path = tmp_path / f'epoch_{epoch}.pth'
        torch.save(dict(state_dict={}, meta=dict(epoch=epoch, iter=4 * epoch)), path)
        (tmp_path / 'last_checkpoint').write_text(str(path))
        elastic.check_resumed(started)
        assert (started.load_from, started.resume) == (str(path), resumed)
    assert load_config(started.filename).load_from == 'stock.pth'
