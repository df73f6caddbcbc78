"""Detectors with scope 'detector', against stock mmdet: equal at width 1.0, a narrow stock detector at the others."""

import copy

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config

import mmmutual
from mmmutual.layers import SlimBatchNorm2d, SlimConvTranspose2d
from mmmutual.slimming.dry_run import PROPOSALS
from tests.support.narrow import assert_same_gradients, carry_weights
from tests.support.small_detectors import shrink_detr

WIDTHS = (1.0, 0.75, 0.5, 0.25)
CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
HEADS = dict(
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    atss='atss/atss_r50_fpn_1x_coco',
    gfl='gfl/gfl_r50_fpn_1x_coco',
    retinanet='retinanet/retinanet_r50_fpn_1x_coco',
    rpn='rpn/rpn_r50_fpn_1x_coco',
    faster='faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    mask='mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
)
CHANNELS = 64


def stock_config(kind: str, width: float = 1.0) -> dict:
    """A detector of few channels, narrow by its own settings."""
    channels = int(CHANNELS * width)
    model = Config.fromfile(f'{CONFIGS}/{HEADS[kind]}.py').model
    model.backbone.update(depth=18, init_cfg=None, base_channels=int(32 * width), norm_eval=False, frozen_stages=-1)
    model.backbone.norm_cfg.requires_grad = True
    in_channels = [int(base * width) for base in (32, 64, 128, 256)]
    model.neck.update(in_channels=in_channels, out_channels=channels)
    heads = [model[name] for name in ('rpn_head', 'bbox_head') if name in model]
    for head in heads:
        head.update(in_channels=channels, feat_channels=channels)
        if head.type in ('FCOSHead', 'ATSSHead', 'GFLHead'):  # whole groups of 8 channels
            head.norm_cfg = dict(type='GN', num_groups=channels // 8, requires_grad=True)
    if 'roi_head' in model:
        for name, part in model.roi_head.items():
            if name.endswith('roi_extractor'):
                part.out_channels = channels
        model.roi_head.bbox_head.update(in_channels=channels, fc_out_channels=int(128 * width))
        if kind == 'mask':
            model.roi_head.mask_head.update(in_channels=channels, conv_out_channels=channels)
        model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        model.train_cfg.rcnn.sampler.num = 32
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    else:
        model.test_cfg.update(nms_pre=50, score_thr=0.0, max_per_img=5)
    return model


def slim_config(kind: str) -> dict:
    model = stock_config(kind)
    model.update(type='SlimmableDetector', detector=model.type, widths=WIDTHS, scope='detector')
    return model


def batch(kind: str) -> dict:
    torch.manual_seed(0)
    return demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], with_mask=kind == 'mask', num_items=[2, 3])


def losses_of(model, data) -> dict[str, torch.Tensor]:
    """All losses of a training step; the gradients are left in the model."""
    model.train()
    torch.manual_seed(5)  # RoI sampling
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    model.parse_losses(losses)[0].backward()
    return {name: torch.stack([*value]) if isinstance(value, list) else value for name, value in losses.items()}


@torch.no_grad()
def predictions_of(model, data) -> list[dict[str, torch.Tensor]]:
    model.eval()
    return [dict(sample.pred_instances.items()) for sample in model.test_step(copy.deepcopy(data))]


@pytest.mark.parametrize('kind', HEADS)
@pytest.mark.integration
def test_full_width_is_stock_bit_for_bit(kind):
    stock, slim = MODELS.build(stock_config(kind)), MODELS.build(slim_config(kind))
    stock.init_weights()
    missing = slim.load_state_dict(stock.state_dict(), strict=False)
    assert not missing.unexpected_keys and all('_at_' in key for key in missing.missing_keys)
    data = batch(kind)
    for ours, theirs in zip(predictions_of(slim, data), predictions_of(stock, data)):
        assert ours.keys() == theirs.keys() and len(theirs['bboxes']) > 0
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = losses_of(slim, data), losses_of(stock, data)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    gradients = {name: parameter.grad for name, parameter in stock.named_parameters()}
    for name, parameter in slim.named_parameters():
        assert (parameter.grad is None) == (gradients[name] is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, gradients[name]), name


@pytest.mark.parametrize('kind', HEADS)
@pytest.mark.parametrize('width', WIDTHS[2:])
@pytest.mark.integration
def test_narrow_width_is_a_narrow_stock_detector(kind, width):
    slim = MODELS.build(slim_config(kind))
    slim.init_weights()
    for norm in slim.modules():
        if isinstance(norm, SlimBatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.0)
            norm.set_statistics(width, torch.randn(norm.num_features) * 0.1, torch.rand(norm.num_features) + 0.5)
    mmmutual.set_width(slim, width)
    narrow = MODELS.build(stock_config(kind, width))
    carry_weights(slim, narrow)
    data = batch(kind)
    for ours, theirs in zip(predictions_of(slim, data), predictions_of(narrow, data)):
        assert ours.keys() == theirs.keys() and len(ours['bboxes']) == len(theirs['bboxes']) > 0
        for name in ours:
            torch.testing.assert_close(ours[name].float(), theirs[name].float(), atol=1e-3, rtol=1e-3)
    ours, theirs = losses_of(slim, data), losses_of(narrow, data)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
    assert_same_gradients(slim, narrow)


def test_hidden_layers_slim_and_predictions_are_complete():
    model = MODELS.build(slim_config('mask'))
    heads = {name: layer for name, layer in model.named_modules() if not name.startswith('backbone')}
    slim = {name for name, layer in heads.items() if getattr(layer, 'slim_out', None)}
    full = {name for name, layer in heads.items() if getattr(layer, 'slim_out', None) is False}
    assert full == {
        'rpn_head.rpn_cls',
        'rpn_head.rpn_reg',
        'roi_head.bbox_head.fc_cls',
        'roi_head.bbox_head.fc_reg',
        'roi_head.mask_head.conv_logits',
    }
    assert {'neck.lateral_convs.0.conv', 'neck.fpn_convs.3.conv', 'rpn_head.rpn_conv'} <= slim
    assert {'roi_head.bbox_head.shared_fcs.0', 'roi_head.bbox_head.shared_fcs.1'} <= slim
    assert isinstance(model.roi_head.mask_head.upsample, SlimConvTranspose2d)


def test_undo_gives_the_stock_detector_back():
    stock = MODELS.build(stock_config('mask')).eval()
    classes, attributes = [type(m) for m in stock.modules()], [set(vars(m)) for m in stock.modules()]
    expected = predictions_of(stock, batch('mask'))
    mmmutual.make_slimmable_(stock, WIDTHS, scope='detector')
    mmmutual.make_slimmable_(stock, WIDTHS, scope='detector')  # the same plan again
    mmmutual.set_width(stock, 0.5)
    mmmutual.undo_slimmable_(stock)
    mmmutual.undo_slimmable_(stock)
    assert [type(m) for m in stock.modules()] == classes
    assert [set(vars(m)) for m in stock.modules()] == attributes
    for ours, theirs in zip(predictions_of(stock, batch('mask')), expected):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_few_proposals_show_what_feeds_what():
    """Those that a COCO config keeps, 1000 of each image, would take a minute in a deep box head."""
    model = MODELS.build(stock_config('mask'))
    rows = []
    handle = model.roi_head.bbox_head.fc_cls.register_forward_hook(lambda layer, args, output: rows.append(len(output)))
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    handle.remove()
    assert 0 < max(rows) <= 2 * PROPOSALS
    assert model.rpn_head.test_cfg.max_per_img == 20


def test_layers_can_be_left_stock():
    """What feeds them stays full."""
    model = MODELS.build(stock_config('retinanet'))
    mmmutual.make_slimmable_(model, WIDTHS, lambda layer, name: 'cls_convs.2' not in name, scope='detector')
    head = model.bbox_head
    assert [getattr(block.conv, 'slim_out', None) for block in head.cls_convs] == [True, False, None, True]
    mmmutual.set_width(model, 0.25)
    assert losses_of(model, batch('retinanet'))


def without_former(layer: torch.nn.Module) -> dict:
    """What a layer is, but for what it was."""
    return {name: value for name, value in vars(layer).items() if name not in ('_swapped', 'width')}


def test_a_second_call_for_less_changes_nothing():
    model = MODELS.build(stock_config('retinanet'))
    mmmutual.make_slimmable_(model, WIDTHS, scope='detector')
    before = [without_former(layer) for layer in model.modules()]
    mmmutual.make_slimmable_(model, WIDTHS)
    assert [without_former(layer) for layer in model.modules()] == before


def test_building_draws_no_random_numbers_beyond_the_stock_weights():
    """A slimmable detector starts from the weights that the stock one has with the same seed."""
    torch.manual_seed(3)
    stock = MODELS.build(stock_config('faster'))
    torch.manual_seed(3)
    slim = MODELS.build(slim_config('faster'))
    assert all(torch.equal(a, b) for a, b in zip(stock.parameters(), slim.parameters(), strict=True))


def test_what_slims_is_one_of_two():
    config = slim_config('rpn')
    config['scope'] = 'heads'
    with pytest.raises(ValueError, match="scope must be 'backbone', as in the paper, or 'detector'.* but got 'heads'"):
        MODELS.build(config)


def small_sparse_rcnn() -> dict:
    """A detector whose boxes are random until its weights are initialised."""
    model = Config.fromfile(f'{CONFIGS}/sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=16)
    model.rpn_head.update(num_proposals=5, proposal_feature_channel=16)
    model.roi_head.update(num_stages=2, stage_loss_weights=[1, 1], proposal_feature_channel=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head = model.roi_head.bbox_head[:2]
    for head in model.roi_head.bbox_head:
        head.update(in_channels=16, num_heads=2, feedforward_channels=32)
        head.dynamic_conv_cfg.update(in_channels=16, feat_channels=8, out_channels=16)
    model.train_cfg.rcnn = model.train_cfg.rcnn[:2]
    return model


def small_dab_detr() -> dict:
    """A detector whose cross attention divides the channels of two concatenated projections among its heads."""
    model = Config.fromfile(f'{CONFIGS}/dab_detr/dab-detr_r50_8xb2-50e_coco.py').model
    model.neck.update(in_channels=[128], out_channels=32)
    shrink_detr(model)
    return model


@pytest.mark.parametrize('make', [small_sparse_rcnn, small_dab_detr])
def test_detectors_of_queries_slim_before_their_weights_are_initialised(make):
    model = make()
    model.backbone.update(depth=18, base_channels=16, init_cfg=None, norm_eval=False, frozen_stages=-1)
    model.backbone.norm_cfg.requires_grad = True
    model.update(type='SlimmableDetector', detector=model.type, widths=WIDTHS, scope='detector')
    model = MODELS.build(model)
    slim = {name for name, layer in model.named_modules() if getattr(layer, 'slim_out', False)}
    assert any('ffns' in name or 'ffn' in name for name in slim)
    model.init_weights()
    data = batch('faster')
    for width in WIDTHS:
        mmmutual.set_width(model, width)
        assert all(value.isfinite().all() for value in losses_of(model, data).values())
