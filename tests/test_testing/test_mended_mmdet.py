"""Corrections of mmdet's and mmcv's faults, which the check of its configs needs."""

import torch
from mmcv.ops import CARAFE
from mmdet.models.dense_heads import SSDHead
from mmdet.models.layers.transformer import DinoTransformerDecoder
from mmdet.models.layers.transformer.grounding_dino_layers import GroundingDinoTransformerDecoder
from torch.nn import functional as F

from mmmutual.testing.mended_mmdet import mend_mmdet


def unfolded(features, masks, kernel, groups, scale):
    """CARAFE as its paper writes it, in PyTorch's operations."""
    n, channels, height, width = features.shape
    windows = F.unfold(features, kernel, padding=kernel // 2).view(n, channels * kernel**2, height, width)
    windows = F.interpolate(windows, scale_factor=scale)
    windows = windows.view(n, groups, channels // groups, kernel**2, *windows.shape[2:])
    weights = masks.view(n, groups, 1, kernel**2, *masks.shape[2:])
    return (windows * weights).sum(3).flatten(1, 2)


def test_carafe_on_the_cpu():
    mend_mmdet()
    torch.manual_seed(0)
    features = torch.rand(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, 2 * 9, 8, 10, dtype=torch.float64, requires_grad=True)
    output = CARAFE(3, 2, 2)(features, masks)
    expected = unfolded(features, masks, 3, 2, 2)
    torch.testing.assert_close(output, expected)
    weight = torch.rand_like(output)
    gradients = torch.autograd.grad((output * weight).sum(), (features, masks))
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), (features, masks)))


def test_the_decoder_of_grounding_dino_reads_the_encoding_of_boxes():
    mend_mmdet()
    mend_mmdet()  # a second call changes nothing
    decoder = GroundingDinoTransformerDecoder(
        1, dict(cross_attn_text_cfg=dict(embed_dims=256, num_heads=8)), post_norm_cfg=None
    )
    dino = DinoTransformerDecoder(1, {}, post_norm_cfg=None)
    assert decoder.ref_point_head.layers[0].in_features == dino.ref_point_head.layers[0].in_features


def test_ssd_predicts():
    mend_mmdet()
    assert SSDHead.loss_cls is None
