"""Checkpoints in each format, and the refusal to read one."""

import pickle
import re

import pytest
import torch
from torch import nn

from mmmutual.checkpoint import read_checkpoint

DAMAGED = 'it is cut short, damaged or has objects other than weights and numbers'


def layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def content() -> dict:
    return dict(meta=dict(epoch=1), state_dict=layers().state_dict())


def as_zip(value, path) -> bytes:
    torch.save(value, path)
    return path.read_bytes()


def as_legacy(value, path) -> bytes:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def as_pickle(value, path) -> bytes:
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path.read_bytes()


FORMATS = pytest.mark.parametrize('write', [as_zip, as_legacy])


def refusal(path) -> str:
    """The one-line message of the refusal, which names the file."""
    with pytest.raises(ValueError, match=f'^the checkpoint {re.escape(str(path))} ') as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)
    return str(caught.value)
