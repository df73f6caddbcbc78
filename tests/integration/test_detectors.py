"""Whole detectors against stock mmdet: bit for bit at width 1.0, a narrow stock detector at the others."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.runner import load_checkpoint, save_checkpoint

import mmmutual
from mmmutual.layers import SlimBatchNorm2d
from tests.support.narrow import assert_same_gradients, carry_weights

WIDTHS = (1.0, 0.75, 0.5, 0.25)
DETECTORS = {'mask': 'mask-rcnn_r50_fpn', 'faster': 'faster-rcnn_r50_fpn'}


def stock_config(kind: str, width: float = 1.0) -> Config:
    config = Config(dict(_scope_='mmdet'))
    model = Config.fromfile(f'{BASE}/{DETECTORS[kind]}.py').model
    model.backbone.update(init_cfg=None, base_channels=int(64 * width))
    model.neck.in_channels = [int(channels * width) for channels in model.neck.in_channels]
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.neck.out_channels = 32  # what lies behind the neck is the same in all of them: keep it cheap
    for name, part in model.roi_head.items():
        if name.endswith('roi_extractor'):
            part.out_channels = 32
    model.roi_head.bbox_head.update(in_channels=32, fc_out_channels=32)
    if kind == 'mask':
        model.roi_head.mask_head.update(in_channels=32, conv_out_channels=32)
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    model.test_cfg.rpn.update(nms_pre=100, max_per_img=50)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    config.model = model
    return config


def slim_config(kind: str) -> Config:
    config = stock_config(kind)
    config.model.backbone.update(type='SlimmableResNet', widths=WIDTHS)
    config.model.neck.update(type='SlimmableFPN')
    return config


@pytest.fixture(scope='module', autouse=True)
def _base():
    global BASE
    import mmdet

    BASE = f'{mmdet.__path__[0]}/.mim/configs/_base_/models'


def loss_and_gradients(model, batch) -> dict[str, torch.Tensor]:
    """All losses of a training step; the gradients are left in the model."""
    model.train()
    torch.manual_seed(5)  # RoI sampling
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return {name: torch.stack([*value]) if isinstance(value, list) else value for name, value in losses.items()}


def predict(model, batch) -> list:
    model.eval()
    with torch.no_grad():
        return [sample.pred_instances for sample in model.test_step(copy.deepcopy(batch))]


def assert_predictions(ours, theirs, check) -> None:
    for mine, other in zip(ours, theirs):
        assert set(mine.keys()) == set(other.keys())
        assert len(mine) == len(other) > 0
        for name in mine.keys():
            check(mine[name].float(), other[name].float())


def equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize('kind', DETECTORS)
def test_full_width_is_stock_bit_for_bit_and_the_way_back(kind, tmp_path):
    stock, slim = MODELS.build(stock_config(kind).model), MODELS.build(slim_config(kind).model)
    stock.init_weights()
    for norm in stock.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.0)
            torch.nn.init.normal_(norm.running_mean, std=0.1)
    save_checkpoint(dict(state_dict=stock.state_dict()), str(tmp_path / 'stock.pth'))
    load_checkpoint(slim, str(tmp_path / 'stock.pth'), strict=True)
    batch = demo_mm_inputs(2, [[3, 96, 128], [3, 128, 96]], with_mask=kind == 'mask', num_items=[2, 3])
    assert_predictions(predict(slim, batch), predict(stock, batch), equal)
    ours, theirs = loss_and_gradients(slim, batch), loss_and_gradients(stock, batch)
    assert ours.keys() == theirs.keys()
    for name in ours:
        equal(ours[name], theirs[name])
    stock_gradients = {name: parameter.grad for name, parameter in stock.named_parameters()}
    for name, parameter in slim.named_parameters():
        assert (parameter.grad is None) == (stock_gradients[name] is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, stock_gradients[name]), name

    torch.optim.SGD(slim.parameters(), lr=0.01).step()
    save_checkpoint(dict(state_dict=slim.state_dict()), str(tmp_path / 'slim.pth'))
    load_checkpoint(stock, str(tmp_path / 'slim.pth'))
    assert_predictions(predict(slim, batch), predict(stock, batch), equal)


@pytest.mark.parametrize('kind', DETECTORS)
@pytest.mark.parametrize('width', WIDTHS[1:])
def test_narrow_width_is_a_narrow_stock_detector(kind, width):
    slim = MODELS.build(slim_config(kind).model)
    slim.init_weights()
    for norm in slim.modules():
        if isinstance(norm, SlimBatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.0)
            var = torch.rand(norm.num_features) + 0.5
            norm.set_statistics(width, torch.randn(norm.num_features) * 0.1, var)
    mmmutual.set_width(slim, width)
    narrow = MODELS.build(stock_config(kind, width).model)
    carry_weights(slim, narrow)
    slim, narrow = slim.double(), narrow.double()
    batch = demo_mm_inputs(2, [[3, 96, 128], [3, 128, 96]], with_mask=kind == 'mask', num_items=[2, 3])
    with torch.no_grad():
        image = torch.rand(1, 3, 96, 128, dtype=torch.float64)
        for ours, theirs in zip(slim.eval().extract_feat(image), narrow.eval().extract_feat(image)):
            torch.testing.assert_close(ours, theirs)
    slim, narrow = slim.float(), narrow.float()  # RoIAlign's and the preprocessor's type
    assert_predictions(
        predict(slim, batch),
        predict(narrow, batch),
        lambda a, b: torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3),
    )
    ours, theirs = loss_and_gradients(slim, batch), loss_and_gradients(narrow, batch)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
    assert_same_gradients(slim, narrow)
