"""A tiny detector with random weights, and an inferencer of it that tests share."""

import pytest

from mmmutual.inference import AdaptiveInferencer
from tests.support.inferencers import Clock, make, table


@pytest.fixture(scope='module')
def shared(tiny_detector) -> AdaptiveInferencer:
    return make(tiny_detector, table=table())


@pytest.fixture
def inferencer(shared) -> AdaptiveInferencer:
    shared.controller = None
    shared.clock = Clock(lambda subnet: 100 * subnet.width * subnet.scale, shared)
    return shared


@pytest.fixture
def images(tiny_data) -> list[str]:
    return sorted(map(str, (tiny_data / 'val').iterdir()))
