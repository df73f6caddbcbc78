"""Small detectors of random layers, with ordered channels: a narrow network is the full one with some channels absent."""

import pytest
import torch

from mmmutual.slimming import order_channels_, plan_slimming
from tests.support.graph_operations import FINE, MIXING, PAIRS
from tests.support.masked import assert_narrow_is_masked, randomize
from tests.support.random_graphs import LAYERS, GraphDetector

SEEDS, BATCH = 240, 20
WIDTHS = (1.0, 0.9, 0.75, 0.6, 0.5, 0.25, 0.15)
shares: dict[int, float] = {}
drawn: set[str] = set()
moved: set[int] = set()  # seeds of graphs whose channels got another order


def check(seed: int) -> float | None:
    """The share of multiply-adds that slims; None if nothing of the backbone does."""
    model = GraphDetector(seed).double().eval()
    drawn.update(model.kinds)
    randomize(model)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(images)
    try:
        plan = plan_slimming(model, ('backbone', 'detector')[seed % 2])
    except ValueError as error:
        assert ' cannot be made slimmable: ' in str(error)
        return None
    try:
        order = order_channels_(model, plan)
    except ValueError as error:
        assert 'does not run on an image alone' in str(error)  # a layer of a step that was not used
    else:
        indices = [index for dims in order.places.values() for index in dims.values()]
        if any(not torch.equal(index, index.sort().values) for index in indices):
            moved.add(seed)
    with torch.no_grad():
        ordered = model(images)
    torch.testing.assert_close(ordered, expected, rtol=1e-10, atol=1e-10)
    plan.apply_(WIDTHS)
    with torch.no_grad():
        assert all(map(torch.equal, model(images), ordered))
    assert_narrow_is_masked(model, lambda net: net(images), WIDTHS)
    return plan.share


@pytest.mark.parametrize('start', range(0, SEEDS, BATCH))
def test_a_narrow_network_is_the_masked_full_one(start):
    for seed in range(start, start + BATCH):
        share = check(seed)
        if share is not None:
            shares[seed] = share


def test_most_of_them_slim():
    """So the test above is about networks that slim, with all layers and operations."""
    if len(shares) < SEEDS // 2:
        pytest.skip('not all seeds ran')
    assert len(shares) > 0.6 * SEEDS
    assert len(moved) > 0.9 * len(shares)
    assert sum(shares.values()) / len(shares) > 0.6
    assert drawn >= {*FINE, *MIXING, *PAIRS, *LAYERS, 'cat'}
