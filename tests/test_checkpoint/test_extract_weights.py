"""Weights of other programs' checkpoints, without running what is in them."""

import argparse
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmmutual.checkpoint import read_checkpoint
from mmmutual.checkpoint.extract_weights import extract_weights, write_weights


class Bait:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).half()


@pytest.mark.parametrize('key', ['model', 'state_dict', 'model_state_dict', 'ema'])
@pytest.mark.parametrize('zip_format', [True, False])
def test_options_of_a_command_line_are_left_out(key, zip_format, tmp_path):
    state = nn.DataParallel(layers()).state_dict()
    content = {key: state, 'args': argparse.Namespace(lr=1, path=tmp_path), 'epoch': 3}
    torch.save(content, tmp_path / 'theirs.pth', _use_new_zipfile_serialization=zip_format)
    with pytest.raises(
        ValueError, match=r'argparse.Namespace.*python tools/model_converters/extract_weights.py .*theirs'
    ):
        read_checkpoint(tmp_path / 'theirs.pth')
    write_weights(tmp_path / 'theirs.pth', tmp_path / 'weights.pth')
    read = read_checkpoint(tmp_path / 'weights.pth')['state_dict']
    assert list(read) == list(layers().state_dict())
    assert all(torch.equal(read[name.removeprefix('module.')], value) for name, value in state.items())


def test_nothing_runs(tmp_path):
    torch.save(dict(model=layers().state_dict(), hook=Bait(tmp_path / 'made')), tmp_path / 'bait.pth')
    extract_weights(tmp_path / 'bait.pth')
    assert not (tmp_path / 'made').exists()
    torch.load(tmp_path / 'bait.pth', weights_only=False)
    assert (tmp_path / 'made').exists(), 'the bait does nothing: the test shows nothing'


def test_bare_weights(tmp_path):
    torch.save({**layers().state_dict(), 'epoch': 3}, tmp_path / 'bare.pth')
    assert list(extract_weights(tmp_path / 'bare.pth')) == list(layers().state_dict())


def test_what_has_no_weights(tmp_path):
    torch.save(layers(), tmp_path / 'whole.pth')
    with pytest.raises(ValueError, match=r'has no named tensors.* save its state_dict\(\)'):
        extract_weights(tmp_path / 'whole.pth')
    torch.jit.script(nn.Conv2d(3, 4, 3)).save(str(tmp_path / 'script.pth'))
    with pytest.raises(ValueError, match='a TorchScript program'):
        extract_weights(tmp_path / 'script.pth')
    (tmp_path / 'cut.pth').write_bytes(b'PK')
    with pytest.raises(ValueError, match='cut.pth cannot be read'):
        extract_weights(tmp_path / 'cut.pth')
    with pytest.raises(FileNotFoundError, match='no checkpoint file'):
        extract_weights(tmp_path / 'none.pth')


@pytest.mark.integration
def test_the_tool(root, tmp_path):
    torch.save(dict(model=layers().state_dict(), args=argparse.Namespace()), tmp_path / 'theirs.pth')
    tool = root / 'tools' / 'model_converters' / 'extract_weights.py'
    command = [sys.executable, tool, 'theirs.pth', '-o', 'weights.pth']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0 and 'weights.pth: 7 tensors' in result.stdout
