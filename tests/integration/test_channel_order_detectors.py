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

CASES = [(backbone, 'classes' if backbone == 'VGG' else 'detector') for backbone in BACKBONES]
CASES += [('Res2Net', 'classes'), ('ResNet', 'backbone')]
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZE = 64


def outputs_of(model: nn.Module) -> list[torch.Tensor]:
    """Of the dense heads."""
    with untouched(model):
        return [value.clone() for value in tensors_in(run_whole(model, SIZE))]


def difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference relative to the largest value of a tensor."""
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(('backbone', 'kind'), CASES)
def test_outputs_stay(backbone, kind):
    scope = 'backbone' if kind == 'classes' else kind
    model = MODELS.build(detector_of(backbone, scope, classes=kind == 'classes').model)
    randomize(model)
    for dtype in TOLERANCES if kind == 'backbone' else (torch.float64,):
        ordered = copy.deepcopy(model).to(dtype)
        before = outputs_of(ordered)
        places = order_channels_(ordered).places
        assert difference(outputs_of(ordered), before) < TOLERANCES[dtype], dtype
    indices = [index for dims in places.values() for index in dims.values()]
    assert sum(not torch.equal(index, index.sort().values) for index in indices) > 0.8 * len(indices)
    statistics = {name for name, _ in model.named_buffers() if name.endswith('running_var_at_0_5')}
    assert len(statistics & set(places)) > 0.5 * len(statistics)
    heads = {name for name in places if not name.startswith(('backbone.', 'neck.'))}
    assert bool(heads) == (kind == 'detector')
