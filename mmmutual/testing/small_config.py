"""Configs of mmdet with less computation, and batches of drawn objects, so that a detector runs in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mmdet
import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmmutual.config_tree import nested_dicts

from .small_bert import BERT, small_bert

OTHER_DATA = {'CLRNet': 'lanes', 'Mask2FormerVideo': 'videos'}  # of models that are not trained on images with boxes
CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'


def shrink(config: Config) -> Config:
    """Remove downloads from a config, and reduce samples and proposals; the architecture stays."""
    for node in nested_dicts(config.model):
        for key in ('init_cfg', 'pretrained', 'teacher_ckpt'):
            if key in node:
                node[key] = False if node[key] is True else None
        if node.get('num_cp'):
            node['num_cp'] = 0  # recomputing activations saves memory only, and needs another package
        if node.get('use_torchvision'):
            node['use_torchvision'] = False  # torchvision compiles its RoIAlign, which takes minutes; mmcv has one too
        for key in ('name', 'lang_model_name'):
            if node.get(key) == BERT:
                node[key] = small_bert()
        for key, most in (('nms_pre', 50), ('max_per_img', 20), ('num', 32)):
            if isinstance(node.get(key), int):
                node[key] = min(node[key], most)
        if 'score_thr' in node and config.model.get('type') != 'CrowdDet':  # whose NMS loops over all boxes in Python
            node['score_thr'] = 0.0  # so that there are predictions to compare
        if node.get('type') == 'MMSyncBN':
            node['type'] = 'SyncBN'  # mmcv's class can only be built in a distributed run
        if str(node.get('teacher_config')).startswith('configs/'):
            node['teacher_config'] = str(CONFIGS.parent / node['teacher_config'])
    model = config.model
    if 'num_proposals' in (model.get('rpn_head') or {}):
        model.test_cfg.rcnn.max_per_img = model.rpn_head.num_proposals  # they are the queries of the head
    model.get('data_preprocessor', {}).pop('batch_augments', None)
    return config


def image_size(config: Config) -> tuple[int, tuple[float, ...]]:
    """Side of the images in pixels, and scales: some detectors need many features, or more than one on each level."""
    kinds = {key: part.get('type') for key, part in config.model.items() if isinstance(part, Mapping)}
    if kinds.get('data_preprocessor') == 'BoxInstDataPreprocessor':
        return 128, (1.0,)  # it computes the targets of a single image size
    if kinds.get('neck') == 'SSDNeck':
        return 300, (1.0, 0.9)
    if config.model.get('as_two_stage'):
        return 256, (1.0, 0.875)
    if kinds.get('bbox_head') == 'DDODHead':
        return 384, (1.0, 0.75)
    return 128, (1.0, 0.75)


def demo_batch(model: nn.Module, size: int, with_mask: bool) -> dict:
    """Two square images with boxes, label maps and, if requested, masks."""
    torch.manual_seed(0)
    np.random.seed(0)
    batch = demo_mm_inputs(2, [[3, size, size]] * 2, [3, 3], 4, with_semantic=True)
    roi_head = getattr(model, 'roi_head', None)
    stride = 8 if getattr(roi_head, 'with_semantic', False) else 1
    for sample in batch['data_samples']:
        sample.gt_instances.bboxes = Tensor([[8, 8, 72, 80], [40, 30, 110, 120], [20, 60, 70, 100]])
        sample.gt_instances.labels = torch.tensor([0, 0, 0])
        masks = np.zeros((3, size, size), dtype=np.uint8)
        for mask, (x, y, right, bottom) in zip(masks, sample.gt_instances.bboxes.int().tolist()):
            mask[y:bottom, x:right] = 1
        if with_mask:
            sample.gt_instances.masks = BitmapMasks(masks, size, size)
        sample.ignored_instances = sample.ignored_instances[:0]
        sample.gt_sem_seg = PixelData(sem_seg=(sample.gt_sem_seg.sem_seg[:, ::stride, ::stride] % 2).long())
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0), batch_input_shape=(size, size), pad_shape=(size, size)))
        if not hasattr(model, 'rpn_head') and roi_head is not None:
            boxes = sample.gt_instances.bboxes.repeat(4, 1) + torch.rand(12, 4)
            sample.proposals = InstanceData(bboxes=boxes, scores=torch.rand(12))
        if hasattr(model, 'language_model'):
            sample.set_metainfo(dict(text='cat. dog.', custom_entities=True))
    return batch
