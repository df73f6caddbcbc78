"""tools/dist_train.sh and tools/dist_test.sh with gloo processes on the CPU, as a user runs them."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from mmmutual.engine import join_processes
from tests.support.tiny import tiny_config

with_gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason='torch was built without gloo')
pytestmark = with_gloo


def run(root, folder, *command, timeout: float = 240) -> subprocess.CompletedProcess:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        'PYTHON': sys.executable,
        'PORT': str(port),
        'PYTHONPATH': f'{root}:{root}/tests/data',
        'CUDA_VISIBLE_DEVICES': '-1',
    }
    command = ['bash', str(root / 'tools' / command[0]), *map(str, command[1:])]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


def config_for(data, work_dir) -> Config:
    config = tiny_config(data, work_dir)
    config.default_hooks.checkpoint.interval = 1
    config.log_level = 'INFO'
    return config


@pytest.fixture(scope='module')
def emptied(tiny_data, tmp_path_factory):
    """The tiny data with objects in every other training image only, so that one of two ranks never receives any."""
    folder = tmp_path_factory.mktemp('emptied') / 'shapes'
    subprocess.run(['cp', '-r', tiny_data, folder], check=True)
    file = folder / 'annotations' / 'train.json'
    content = json.loads(file.read_text())
    seen = {image['id'] for image in content['images'][::2]}
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] in seen]
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def trained(emptied, tmp_path_factory, root):
    """Files and output of dist_train.sh after an epoch in which one of two ranks received no object."""
    folder = tmp_path_factory.mktemp('dist')
    config = config_for(emptied, folder / 'work')
    config.train_dataloader.sampler.shuffle = False
    dataset = config.train_dataloader.dataset
    dataset.filter_cfg = None
    dataset.pipeline = [transform for transform in dataset.pipeline if transform.type != 'RandomFlip']
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=2))
    config.train_cfg.val_interval = 1
    config.dump(folder / 'config.py')
    result = run(root, folder, 'dist_train.sh', 'config.py', 2)
    assert result.returncode == 0, result.stderr
    assert '| width | scale | multiply-adds |' in result.stdout + result.stderr
    return folder


def test_training_where_one_process_sees_no_object(trained):
    state = read_checkpoint(trained / 'work' / 'epoch_1.pth')['state_dict']
    assert all(value.isfinite().all() for value in state.values())


def test_two_processes_calibrate_as_one_does(trained):
    config = Config.fromfile(trained / 'config.py')
    state = read_checkpoint(trained / 'work' / 'epoch_1.pth')['state_dict']
    model = MODELS.build(config.model)
    model.load_state_dict(state)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batches = ([0, 2], [4, 6], [1, 3], [5, 7])  # of the first process, then of the second
    mmmutual.calibrate(model, [pseudo_collate([dataset[index] for index in batch]) for batch in batches])
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], msg=lambda m, name=name: f'{name}: {m}')


def test_two_processes_evaluate_as_one_does(trained, root):
    arguments = ['--widths', 1.0, 0.25, '--scales', 1.0, 0.5, '--work-dir']
    one = [sys.executable, root / 'tools' / 'test.py', 'config.py', 'work/epoch_1.pth', *arguments, 'one']
    one = subprocess.run(list(map(str, one)), cwd=trained, capture_output=True, text=True, timeout=240)
    two = run(root, trained, 'dist_test.sh', 'config.py', 'work/epoch_1.pth', 2, *arguments, 'two')
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    tables = [json.loads(next((trained / name).rglob('subnets.json')).read_text()) for name in ('one', 'two')]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 4


def test_when_one_process_is_killed_the_other_ends_with_an_error(tiny_data, tmp_path, root):
    config = config_for(tiny_data, tmp_path / 'work')
    config.custom_imports.imports = ['mmmutual', 'fault_plugin']
    config.custom_hooks.append(dict(type='Die', rank=1, iteration=1))
    config.dump(tmp_path / 'config.py')
    result = run(root, tmp_path, 'dist_train.sh', 'config.py', 2, timeout=120)  # MMEngine's own limit is 30 minutes
    assert result.returncode != 0
    assert 'the process dies now' in result.stdout
    assert 'Signal 9 (SIGKILL)' in result.stderr


def test_usage(root, tmp_path):
    result = run(root, tmp_path, 'dist_train.sh')
    assert result.returncode != 0
    assert 'usage: bash tools/dist_train.sh CONFIG PROCESSES' in result.stderr
    result = run(root, tmp_path, 'dist_test.sh', 'config.py', 'epoch_1.pth')
    assert result.returncode != 0
    assert 'usage: bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES' in result.stderr
    result = run(root, tmp_path, 'dist_elastic.sh', 'config.py', 'epoch_1.pth')
    assert (
        'usage: bash tools/dist_elastic.sh CONFIG CHECKPOINT PROCESSES [options of tools/elastic.py]' in result.stderr
    )


@pytest.mark.parametrize('launcher', ['none', 'slurm'])
def test_other_launchers_are_left_to_mmengine(launcher):
    config = Config(dict(launcher=launcher))
    join_processes(config)
    assert config.to_dict() == dict(launcher=launcher)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ('options', 'wrapper'),
    [
        ({}, dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=False)),
        (
            dict(find_unused_parameters=True),
            dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=True),
        ),
        (dict(model_wrapper_cfg=dict(type='Other', device_ids=[0])), dict(type='Other')),
    ],
)
def test_without_a_gpu_gloo_joins_the_processes(options, wrapper, monkeypatch):
    joined = []
    monkeypatch.setattr('mmmutual.engine.launch.get_device', lambda: 'cpu')
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **kwargs: joined.append((args, kwargs)))
    config = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)), **options))
    join_processes(config)
    assert joined == [(('gloo',), dict(timeout=timedelta(seconds=60)))]
    assert config.model_wrapper_cfg == {**wrapper, 'device_ids': None}


def test_gpus_are_left_to_mmengine(monkeypatch):
    monkeypatch.setattr('mmmutual.engine.launch.get_device', lambda: 'cuda')
    config = Config(dict(launcher='pytorch'))
    join_processes(config)
    assert config.to_dict() == dict(launcher='pytorch')
