"""Detectors of mmdet: ordered, and then narrow, they are the full one with some channels absent, in either scope."""

from collections.abc import Iterator
from contextlib import contextmanager

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmutual.slimming import SlimmingPlan, order_channels_, plan_slimming
from mmmutual.slimming.dry_run import run_whole, untouched
from mmmutual.tensor_tree import tensors_in
from tests.support.masked import Run, assert_narrow_is_masked, randomize

CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
WIDTHS = (1.0, 0.6, 0.25)
SMALL = dict(depth=18, base_channels=16, init_cfg=None, norm_eval=False, frozen_stages=-1)


def resnet(name: str, **options) -> dict:
    model = Config.fromfile(f'{CONFIGS}/{name}.py').model
    model.backbone.update(**SMALL)
    levels = [16, 32, 64, 128]
    model.neck.update(in_channels=levels[-len(model.neck.in_channels) :], out_channels=32)
    config = Config(dict(model=model))
    config.merge_from_dict({f'model.{name}': value for name, value in options.items()})
    return config.model


def retinanet() -> dict:
    return resnet('retinanet/retinanet_r50_fpn_1x_coco', **{'bbox_head.in_channels': 32, 'bbox_head.feat_channels': 32})


def faster_rcnn(name: str = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco', **options) -> dict:
    return resnet(
        name,
        **{
            'rpn_head.in_channels': 32,
            'rpn_head.feat_channels': 32,
            'roi_head.bbox_roi_extractor.out_channels': 32,
            'roi_head.bbox_head.in_channels': 32,
            'roi_head.bbox_head.fc_out_channels': 64,
            **options,
        },
    )


def mask_rcnn() -> dict:
    parts = {f'roi_head.mask_head.{name}': 32 for name in ('in_channels', 'conv_out_channels')}
    return faster_rcnn(
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco', **{'roi_head.mask_roi_extractor.out_channels': 32, **parts}
    )


def yolox() -> dict:
    model = Config.fromfile(f'{CONFIGS}/yolox/yolox_tiny_8xb8-300e_coco.py').model
    model.backbone.update(deepen_factor=0.33, widen_factor=0.25)
    model.neck.update(in_channels=[64, 128, 256], out_channels=32, num_csp_blocks=1)
    model.bbox_head.update(in_channels=32, feat_channels=32)
    return model


def rtmdet() -> dict:
    model = Config.fromfile(f'{CONFIGS}/rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
    model.backbone.update(deepen_factor=0.167, widen_factor=0.25, init_cfg=None)
    model.neck.update(in_channels=[64, 128, 256], out_channels=32, num_csp_blocks=1)
    model.bbox_head.update(in_channels=32, feat_channels=32)
    return model


@contextmanager
def few_proposals(model: nn.Module) -> Iterator[None]:
    """Proposals of a model without training are as good as equal, so rounding would choose among them: keep the given box."""
    former = getattr(model, 'rpn_head', None)
    try:
        if former is not None:
            model.rpn_head = None
        yield
    finally:
        if former is not None:
            model.rpn_head = former


def assert_order_is_exact(model: nn.Module, plan: SlimmingPlan, run: Run) -> None:
    """Order the channels; the outputs stay."""
    with untouched(model):
        before = [*tensors_in(run(model))]
    order = order_channels_(model, plan)
    assert any(not torch.equal(index, index.sort().values) for dims in order.places.values() for index in dims.values())
    with untouched(model):
        for ours, theirs in zip(tensors_in(run(model)), before, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * theirs.abs().max().item())


MAKE = (retinanet, faster_rcnn, mask_rcnn, yolox, rtmdet)


@pytest.mark.parametrize('scope', ['backbone', 'detector'])
@pytest.mark.parametrize('make', MAKE, ids=lambda make: make.__name__)
@pytest.mark.integration
def test_a_narrow_detector_is_the_masked_full_one(make, scope):
    model: nn.Module = MODELS.build(make())
    randomize(model)
    model.eval()
    plan = plan_slimming(model, scope)
    slimming = {layer.name.split('.')[0] for layer in plan.layers if layer.slims_out}
    assert 'backbone' in slimming and ('bbox_head' in slimming or 'roi_head' in slimming or 'encoder' in slimming) == (
        scope == 'detector'
    )

    def run(net: nn.Module) -> object:
        with few_proposals(net):
            return run_whole(net, 128)

    assert_order_is_exact(model.double(), plan, run)
    plan.apply_(WIDTHS)
    model.float().eval()
    assert_narrow_is_masked(model, run, WIDTHS, tolerance=1e-3)
