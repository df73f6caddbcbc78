"""Slimmable detectors of every backbone keep their outputs at width 1.0 when their channels are ordered."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmmutual.slimming import order_channels_
from mmmutual.slimming.dry_run import run_whole, untouched
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import randomize
from tests.support.small_detectors import BACKBONES, detector_of

CASES = [*((backbone, 'detector') for backbone in BACKBONES), ('Res2Net', 'classes'), ('ResNet', 'backbone')]
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZE = 96


def outputs_of(model: nn.Module) -> list[torch.Tensor]:
    """Of the dense heads."""
    with untouched(model):
        return [value.clone() for value in tensors_in(run_whole(model, SIZE))]


def difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference relative to the largest value of a tensor."""
    pairs = zip(ours, theirs, strict=True)
    return max((float((one - two).abs().max() / two.abs().max()) for one, two in pairs), default=0.0)


@pytest.mark.parametrize(('backbone', 'kind'), CASES)
def test_outputs_stay(backbone, kind):
    scope = 'backbone' if kind == 'classes' else kind
    exact = MODELS.build(detector_of(backbone, scope, classes=kind == 'classes').model).double()
    randomize(exact)
    models = {torch.float32: copy.deepcopy(exact).float(), torch.float64: exact}
    names = []
    for dtype, model in models.items():
        before = outputs_of(model)
        order = order_channels_(model)
        assert difference(outputs_of(model), before) < TOLERANCES[dtype], dtype
        names.append(set(order.places))
        moved = [
            not torch.equal(index, index.sort().values) for dims in order.places.values() for index in dims.values()
        ]
        assert sum(moved) > 0.8 * len(moved)
    assert names[0] == names[1]
    statistics = {name for name, _ in exact.backbone.named_buffers() if name.endswith('running_var_at_0_5')}
    ordered = {name.removeprefix('backbone.') for name in names[0]}
    assert len(statistics & ordered) > 0.5 * len(statistics) > 0
    assert any(not name.startswith('backbone.') for name in names[0]) == (kind == 'detector' or bool(exact.neck))
