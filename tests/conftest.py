"""Shared fixtures; ``narrow`` is a module of helpers beside the tests."""

import sys
from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules

import mmmutual  # noqa: F401

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'tests'))


@pytest.fixture(scope='session', autouse=True)
def _mmdet_scope():
    register_all_modules(init_default_scope=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """A drawn data set of eight training and four validation images."""
    from tiny import draw_tiny

    return draw_tiny(tmp_path_factory.mktemp('tiny') / 'shapes')
