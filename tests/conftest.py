"""Shared fixtures."""

from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules

import mmmutual  # noqa: F401
from tests.support.tiny import draw_tiny

ROOT = Path(__file__).parents[1]


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

    return draw_tiny(tmp_path_factory.mktemp('tiny') / 'shapes')
