"""Tiny detectors with transformers, from mmdet's own configs: few layers of few channels."""

from __future__ import annotations

import mmdet
from mmengine.config import Config, ConfigDict

from mmmutual.config_tree import nested_dicts

CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
RESNET = dict(depth=18, base_channels=16, init_cfg=None, norm_eval=False, frozen_stages=-1, norm_cfg=dict(type='BN'))
LEVELS = [16, 32, 64, 128]  # of the ResNet
SMALLER = dict(  # settings of encoders, decoders and heads, wherever they stand
    embed_dims=32, feedforward_channels=64, num_feats=16, num_layers=2, num_points=2, num_heads=4, max_per_image=5
)


def _retinanet(name: str, channels: list[int], **backbone) -> ConfigDict:
    model = Config.fromfile(f'{CONFIGS}/{name}.py').model
    model.backbone.update(init_cfg=None, pretrained=None, **backbone)
    model.neck.update(in_channels=channels[-len(model.neck.in_channels) :], out_channels=32, num_outs=3)
    model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1)
    model.bbox_head.anchor_generator.strides = model.bbox_head.anchor_generator.strides[:3]
    model.test_cfg.update(nms_pre=50, score_thr=0.0, max_per_img=5)
    return model


def _queries(name: str, **sizes: int) -> ConfigDict:
    sizes = {**SMALLER, **sizes}
    model = Config.fromfile(f'{CONFIGS}/{name}.py').model
    model.backbone.update(**RESNET)
    for node in nested_dicts(model):
        node.update({key: value for key, value in sizes.items() if isinstance(node.get(key), int)})
    head = model.get('panoptic_head', model)
    head.num_queries = 5
    if 'neck' in model:
        model.neck.update(in_channels=LEVELS[-len(model.neck.in_channels) :], out_channels=sizes['embed_dims'])
        if model.neck.norm_cfg:
            model.neck.norm_cfg.num_groups = 4
        model.bbox_head.update(embed_dims=sizes['embed_dims'])
        model.test_cfg.max_per_img = 5
    return model


def swin() -> ConfigDict:
    """Heads of 8 channels, which are rounded as the tokens are."""
    sizes = dict(embed_dims=16, depths=[2, 1, 1, 1], num_heads=[2, 4, 4, 8], window_size=3)
    return _retinanet('swin/retinanet_swin-t-p4-w7_fpn_1x_coco', [16, 32, 64, 128], **sizes)


def swin_of_wide_heads() -> ConfigDict:
    """Heads of 16 channels, so that their number is rounded apart from the tokens, and position embeddings."""
    model = swin()
    model.backbone.update(num_heads=[1, 2, 4, 8], use_abs_pos_embed=True, pretrain_img_size=64, patch_norm=True)
    return model


def pvt() -> ConfigDict:
    sizes = dict(embed_dims=16, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2])
    return _retinanet('pvt/retinanet_pvt-t_fpn_1x_coco', [16, 32, 32, 64], **sizes, pretrain_img_size=64)


def pvt_v2() -> ConfigDict:
    sizes = dict(embed_dims=16, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2])
    return _retinanet('pvt/retinanet_pvtv2-b0_fpn_1x_coco', [16, 32, 32, 64], **sizes)


def detr() -> ConfigDict:
    return _queries('detr/detr_r50_8xb2-150e_coco')


def deformable_detr() -> ConfigDict:
    return _queries('deformable_detr/deformable-detr_r50_16xb2-50e_coco')


def deformable_detr_of_two_stages() -> ConfigDict:
    """Of 256 channels: mmdet encodes proposals in a fixed number of them."""
    model = _queries('deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco', embed_dims=256, num_layers=1)
    model.positional_encoding.num_feats = 128
    return model


def dino() -> ConfigDict:
    model = _queries('dino/dino-4scale_r50_8xb2-12e_coco')
    model.dn_cfg.group_cfg.num_dn_queries = 6
    return model


def mask2former() -> ConfigDict:
    model = _queries('mask2former/mask2former_r50_8xb2-lsj-50e_coco')
    model.panoptic_head.update(in_channels=LEVELS, feat_channels=32, out_channels=32)
    model.panoptic_head.pixel_decoder.norm_cfg.num_groups = 4
    model.train_cfg.num_points = 64
    return model


BACKBONES = (swin, swin_of_wide_heads, pvt, pvt_v2)
DETECTORS = (detr, deformable_detr, deformable_detr_of_two_stages, dino, mask2former)
