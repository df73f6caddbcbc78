"""Necks that concatenate levels of the backbone: the absent channels of a narrow level count as zeros."""

import copy

import pytest
import torch
from mmdet.models import necks as stock
from mmdet.registry import MODELS
from torch import nn

import mmmutual
from mmmutual.layers import Segment
from tests.support.backbones import randomize_norms
from tests.support.narrow import assert_same_gradients

WIDTHS = (1.0, 0.75, 0.5)
CHANNELS = [32, 64, 128]
NECKS = {
    'HRFPN': dict(in_channels=CHANNELS, out_channels=16),
    'YOLOV3Neck': dict(num_scales=3, in_channels=CHANNELS[::-1], out_channels=[64, 32, 16]),
    'YOLOXPAFPN': dict(in_channels=CHANNELS, out_channels=16, num_csp_blocks=1),
    'CSPNeXtPAFPN': dict(in_channels=CHANNELS, out_channels=16, num_csp_blocks=1),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    config = copy.deepcopy(dict(NECKS[name], type=name))
    full, slim = MODELS.build(config), MODELS.build(dict(config, type=f'Slimmable{name}', widths=WIDTHS))
    randomize_norms(slim)
    full.load_state_dict({key: value for key, value in slim.state_dict().items() if '_at_' not in key})
    return slim, full


def levels(width: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Narrow levels, and the same with zeros in the channels that are absent."""
    narrow, padded = [], []
    for channels, size in zip(CHANNELS, (16, 8, 4)):
        narrow.append(torch.rand(2, Segment(channels).active(width), size, size))
        absent = torch.zeros(2, channels - narrow[-1].size(1), size, size)
        padded.append(torch.cat((narrow[-1], absent), 1))
    return narrow, padded


def run(neck: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    outs = neck(tuple(inputs))
    sum(out.square().mean() for out in outs).backward()
    return [out.detach() for out in outs]


@pytest.mark.parametrize('name', NECKS)
def test_full_width_is_stock_bit_for_bit(name):
    slim, full = pair(name)
    inputs, _ = levels(1.0)
    for ours, theirs in zip(run(slim, inputs), run(full, inputs), strict=True):
        assert torch.equal(ours, theirs)
    gradients = {key: parameter.grad for key, parameter in full.named_parameters()}
    assert all(torch.equal(parameter.grad, gradients[key]) for key, parameter in slim.named_parameters())


@pytest.mark.parametrize('width', [0.75, 0.5])
@pytest.mark.parametrize('name', NECKS)
def test_absent_channels_count_as_zeros(name, width):
    slim, full = pair(name)
    mmmutual.set_width(slim, width)
    narrow, padded = levels(width)
    for ours, theirs in zip(run(slim, narrow), run(full, padded), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert_same_gradients(slim, full)


def test_the_reference_is_the_stock_neck_and_needs_its_segments():
    slim, _ = pair('YOLOXPAFPN')
    assert isinstance(slim, stock.YOLOXPAFPN)
    conv = slim.top_down_blocks[1].main_conv.conv
    assert conv.in_segments == (Segment.full(32), Segment(32))


def test_wrong_widths():
    with pytest.raises(ValueError, match='widths is empty'):
        MODELS.build(dict(NECKS['HRFPN'], type='SlimmableHRFPN', widths=()))
