"""Multiply-adds of layers, extrapolated from small images, against those counted at full size."""

import mmdet
import pytest
from mmdet.models.backbones import TridentResNet
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import mmmutual
from mmmutual.slimming import plan_slimming

CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head')


def test_parts_of_a_detector_cost_what_is_counted_at_full_size():
    config = Config.fromfile(f'{CONFIGS}/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model
    config.backbone.update(depth=18, init_cfg=None)
    config.neck.in_channels = [64, 128, 256, 512]
    model = MODELS.build(config)
    plan = plan_slimming(model)
    counted = mmmutual.count_multiply_adds(model, (800, 1344))
    found = dict.fromkeys(PARTS, 0)
    for layer in plan.layers:
        part = next(part for part in PARTS if part in layer.name or part in layer.name.replace('roi_extractor', 'head'))
        found[part] += plan.multiply_adds[layer.layer] if layer.layer in plan.multiply_adds else 0
    assert found == {part: pytest.approx(counted[part], rel=0.02) for part in PARTS}
    share = (found['backbone'] + sum(plan.multiply_adds[conv.conv] for conv in model.neck.lateral_convs)) / sum(
        found.values()
    )
    assert plan.share == pytest.approx(share)


@pytest.mark.parametrize('scope', ['backbone', 'detector'])
def test_what_remains_at_a_width(scope):
    config = Config.fromfile(f'{CONFIGS}/retinanet/retinanet_r18_fpn_1x_coco.py').model
    config.backbone.init_cfg = None
    model = MODELS.build(config)
    full = mmmutual.count_multiply_adds(model, (800, 1344))['total']
    plan = plan_slimming(model, scope)
    remaining = plan.remaining(0.25)
    plan.apply_((1.0, 0.25))
    with mmmutual.use_width(model, 0.25):
        assert remaining == pytest.approx(mmmutual.count_multiply_adds(model, (800, 1344))['total'] / full, rel=0.02)


def test_a_depthwise_convolution_has_fewer_groups():
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, groups=64), nn.Conv2d(64, 8, 1))
    plan = plan_slimming(model)
    kept = {layer.layer: layer.remaining(0.25) for layer in plan.layers}
    assert [kept[layer] for layer in model] == [0.25, 0.25, 0.25]


def test_a_roi_head_that_gets_fewer_rois_on_the_larger_image(monkeypatch):
    """Their number depends on the scores; it must not be taken for a growth with the image."""
    config = Config.fromfile(f'{CONFIGS}/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
    config.backbone.update(depth=18, init_cfg=None)
    config.neck.in_channels = [64, 128, 256, 512]
    model = MODELS.build(config)
    forward = model.roi_head.forward

    def fewer(features, proposals, *args):
        kept = [each[: 8 if features[0].size(-1) == 16 else 5] for each in proposals]
        return forward(features, kept, *args)

    monkeypatch.setattr(model.roi_head, 'forward', fewer)
    costs = plan_slimming(model).multiply_adds
    assert costs[model.roi_head.bbox_head.shared_fcs[0]] == 1000 * 256 * 49 * 1024


def test_each_branch_of_a_convolution_costs():
    costs = []
    for test_branch_idx in (1, -1):
        options = dict(num_branch=3, trident_dilations=(1, 2, 3), num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
        net = TridentResNet(50, test_branch_idx=test_branch_idx, out_indices=(2,), base_channels=16, **options)
        costs.append(plan_slimming(net).multiply_adds[net.layer3[0].conv2])
    assert costs[1] == 3 * costs[0] > 0
