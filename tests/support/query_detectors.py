"""Small detectors of every kind whose decoder predicts after each layer."""

from __future__ import annotations

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from mmmutual.config_tree import nested_dicts

CONFIGS = f'{mmdet.__path__[0]}/.mim/configs'
LAYERS = 4
SIZE = (64, 96)
BOXES = dict(
    detr='detr/detr_r50_8xb2-150e_coco',
    conditional='conditional_detr/conditional-detr_r50_8xb2-50e_coco',
    dab='dab_detr/dab-detr_r50_8xb2-50e_coco',
    deformable='deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    refine='deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco',
    two_stage='deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco',
    dino='dino/dino-4scale_r50_8xb2-12e_coco',
    ddq='ddq/ddq-detr-4scale_r50_8xb2-12e_coco',
)
MASKS = dict(
    mask2former='mask2former/mask2former_r50_8xb2-lsj-50e_coco',
    maskformer='maskformer/maskformer_r50_ms-16xb1-75e_coco',
)
SMALL = dict(feat_channels=32, feedforward_channels=64, num_queries=10)


def query_config(kind: str) -> Config:
    """The config of a model with few channels and queries, one encoder layer, and ``LAYERS`` decoder layers."""
    model = Config.fromfile(f'{CONFIGS}/{(BOXES | MASKS)[kind]}.py').model
    channels = 256 if kind in ('conditional', 'two_stage') else 32  # they encode points in 256 channels in any case
    small = dict(SMALL, embed_dims=channels, num_feats=channels // 2)
    for node in nested_dicts(model):
        node.update({key: value for key, value in small.items() if key in node})
        if isinstance(node.get('in_channels'), list):  # channels of the stages of a ResNet-50
            node.in_channels = [count // 16 for count in node.in_channels]
        for key in ('out_channels', 'num_layers'):
            if isinstance(node.get(key), int):
                node[key] = dict(out_channels=channels, num_layers=1)[key]
    (model.decoder if kind in BOXES else model.panoptic_head.transformer_decoder).num_layers = LAYERS
    if kind in BOXES:
        model.bbox_head.embed_dims = channels
        model.test_cfg.max_per_img = 5
    model.backbone.update(depth=18, base_channels=16, init_cfg=None)
    model.data_preprocessor.batch_augments = None
    return model


def query_detector(kind: str) -> nn.Module:
    """A model with random weights, whose branches differ from each other, in evaluation mode."""
    torch.manual_seed(0)
    model = MODELS.build(query_config(kind)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def query_batch() -> tuple[torch.Tensor, list[DetDataSample]]:
    """An image of noise with its sample."""
    shapes = dict(img_shape=SIZE, ori_shape=SIZE, batch_input_shape=SIZE, pad_shape=SIZE)
    return torch.randn(1, 3, *SIZE), [DetDataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0)))]
