"""A mask head without masks to learn from, and masks that are evaluated without one, are refused before a run."""

import pytest
from mmengine.config import Config

from mmmutual.config.mask_heads import check_mask_heads

BOXES = dict(bbox_head=dict(type='Shared2FCBBoxHead'))
MASKS = dict(BOXES, mask_head=dict(type='FCNMaskHead'))


def config(roi_head, with_mask: bool, metric='bbox') -> Config:
    pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)]
    loader = dict(dataset=dict(type='CocoDataset', ann_file='a.json', pipeline=pipeline))
    evaluator = dict(type='CocoMetric', metric=metric)
    return Config(dict(model=dict(roi_head=roi_head), train_dataloader=loader, val_evaluator=evaluator))


@pytest.mark.parametrize('metric', ['segm', ['bbox', 'segm'], ('segm',)], ids=str)
def test_masks_are_evaluated_without_a_head(metric):
    settings = config(BOXES, False, metric)
    with pytest.raises(
        ValueError, match='^val_evaluator: metric=.*segm.* evaluates masks, but model.roi_head has no mask'
    ):
        check_mask_heads(settings, ('train', 'val'))
    settings.model.roi_head.mask_head = None
    settings.val_evaluator = [dict(type='VOCMetric'), settings.val_evaluator]
    check_mask_heads(settings, ('train',))
    check_mask_heads(config(MASKS, True, metric), ('train', 'val'))


def test_a_head_has_no_masks_to_learn_from():
    with pytest.raises(ValueError, match=r'^train_dataloader: model.roi_head.mask_head needs .*Set with_mask=True in'):
        check_mask_heads(config(MASKS, False), ('train', 'val'))
    check_mask_heads(config(MASKS, False), ('val', 'test'))


@pytest.mark.parametrize('model', [None, dict(bbox_head=dict(type='RTMDetInsHead')), dict(roi_head=None)])
def test_other_detectors_are_left_alone(model):
    settings = config(BOXES, False, 'segm')
    settings.model = model
    check_mask_heads(settings, ('train', 'val'))
