# Faster R-CNN R-50-FPN. It has boxes only, so masks are neither loaded nor evaluated.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', './coco_1000x600.py']

train_pipeline = [
    transform if transform['type'] != 'LoadAnnotations' else dict(type='LoadAnnotations', with_bbox=True)
    for transform in _base_.train_pipeline
]
test_pipeline = [
    transform if transform['type'] != 'LoadAnnotations' else dict(type='LoadAnnotations', with_bbox=True)
    for transform in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric='bbox')
test_evaluator = dict(metric='bbox')
