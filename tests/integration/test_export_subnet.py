"""tools/model_converters/export_subnet.py as a user runs it."""

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from mmengine.config import Config

from mmmutual.checkpoint import read_checkpoint
from tests.support.deployed import WITHOUT_MMMUTUAL, detector_config, run_without_mmmutual, trained

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'export_subnet.py'


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('tool')
    config = detector_config('mask', tiny_data, folder / 'work')
    trained(config, folder / 'work' / 'epoch_1.pth')
    config.dump(folder / 'config.py')
    return folder


def export(folder, *arguments, checkpoint='work/epoch_1.pth', config='config.py'):
    command = [sys.executable, str(TOOL), config, checkpoint, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def test_files_and_report(setting):
    result = export(setting, '--width', 0.5, '--scale', 0.5, '--format', 'onnx')
    assert result.returncode == 0, result.stderr
    folder = setting / 'work' / 'export' / 'w0.5_s0.5'
    assert sorted(path.name for path in folder.iterdir()) == ['dense.onnx', 'detector.pth', 'detector.py']
    text = result.stdout.replace(f'{setting}/', '')
    assert 'No stock config' not in text
    assert 'config: work/export/w0.5_s0.5/detector.py\n' in text
    for name in ('detector.pth', 'dense.onnx'):
        assert f'work/export/w0.5_s0.5/{name}, {(folder / name).stat().st_size / 1e6:.1f} MB' in text
    assert 'parameters: 1.54 M, of 3.65 M at full width' in text
    assert 'checked: outputs of the sub-network and of the exported detector equal bit for bit' in text
    assert 'input 1 x 3 x 32 x 32\nchecked: outputs of onnxruntime and of PyTorch differ by' in text
    assert onnxruntime.InferenceSession(str(folder / 'dense.onnx')).get_inputs()[0].shape == [1, 3, 32, 32]
    script = 'from mmdet.apis import init_detector; init_detector(*sys.argv[1:], device="cpu")'
    run_without_mmmutual(script, folder / 'detector.py', folder / 'detector.pth', cwd=setting)


def test_weights_of_a_distributed_model(setting):
    """Its names begin with ``module.``; they are the weights all the same."""
    state = read_checkpoint(setting / 'work' / 'epoch_1.pth')['state_dict']
    torch.save({f'module.{name}': value for name, value in state.items()}, setting / 'wrapped.pth')
    result = export(setting, '--width', 1.0, '-o', 'full', checkpoint='wrapped.pth')
    assert result.returncode == 0, result.stderr
    full = read_checkpoint(setting / 'full' / 'detector.pth')['state_dict']
    assert all(torch.equal(value, state[name]) for name, value in full.items())


def test_a_width_that_no_stock_config_has_says_so(setting):
    config = Config.fromfile(setting / 'config.py')
    config.model.backbone.widths = (1.0, 0.6)
    trained(config, setting / 'work' / 'odd.pth')
    config.dump(setting / 'odd.py')
    result = export(setting, '--width', 0.6, '-o', 'odd', checkpoint='work/odd.pth', config='odd.py')
    assert result.returncode == 0, result.stderr
    assert 'No stock config has the channels of width 0.6, so detector.py needs mmmutual to load.\n' in result.stdout
    assert 'outputs of the sub-network and of the exported detector equal bit for bit' in result.stdout
    load = 'import sys; from mmdet.apis import init_detector; init_detector(*sys.argv[1:], device="cpu")'
    files = ['odd/detector.py', 'odd/detector.pth']
    loaded = subprocess.run([sys.executable, '-c', load, *files], cwd=setting, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    blocked = subprocess.run([sys.executable, '-I', '-c', WITHOUT_MMMUTUAL + load, *files], cwd=setting, text=True)
    assert blocked.returncode != 0


def test_an_error_is_one_sentence(setting):
    result = export(setting, '--width', 0.6, '-o', 'wrong')
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'error: width 0.6 has no batch-norm statistics' in result.stderr
    assert not (setting / 'wrong').exists()
