# Fine-tune a mutual detector on your own data set in COCO format, on one GPU. Copy this file and change the settings above
# the line. docs/transfer.md explains them.
_base_ = './mutual_mask_rcnn_r50.py'

load_from = 'work_dirs/mutual_mask_rcnn_r50/epoch_24.pth'  # a checkpoint of _base_
data_root = 'data/custom'
train = dict(ann_file='annotations/train.json', data_prefix=dict(img='train/'))
val = dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'))
classes = ('circle', 'triangle')  # names in the annotation files, in their order; for one class ('circle',)
masks = True  # False for data with boxes only: masks are not loaded, trained or evaluated

image_scale = _base_.image_scale  # longest and shortest side of the images at scale 1.0, pixels
widths = _base_.widths  # width multipliers to train
batch_size = 2
lr = 0.0025  # learning rate for this batch size; use half of it for half the batch
max_epochs = 12
val_interval = 1  # epochs
save_best = 'coco/bbox_mAP'  # metric of the widest network that selects the best checkpoint; None keeps the last ones
max_per_img = _base_.model.test_cfg.rcnn.max_per_img  # maximum number of detections in an image
norm_eval = True  # keep the statistics of the batch norms; False needs batches of 8 images or more
# ----------------------------------------------------------------------------------------------------------------------

has_masks = 'mask_head' in _base_.model.roi_head
with_masks = masks and has_masks
heads = ('bbox_head', 'mask_head') if with_masks else ('bbox_head',)
roi_head = {name: dict(num_classes=len(classes)) for name in heads}
if has_masks and not masks:
    roi_head.update(mask_roi_extractor=None, mask_head=None)
model = dict(
    backbone=dict(widths=widths, norm_eval=norm_eval, init_cfg=None),
    roi_head=roi_head,
    test_cfg=dict(rcnn=dict(max_per_img=max_per_img)),
)
if 'widths' in _base_.model:
    model.update(widths=widths)  # of SlimmableDetector

settings = dict(Resize=dict(scale=image_scale), LoadAnnotations=dict(with_bbox=True, with_mask=with_masks))
train_pipeline = [dict(step, **settings.get(step['type'], {})) for step in _base_.train_pipeline]
test_pipeline = [dict(step, **settings.get(step['type'], {})) for step in _base_.test_pipeline]

data_help = f'{data_root} must have the files and classes of train, val and classes at the top of the config.'
metainfo = dict(classes=classes)
data = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline, **data, **train))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data, **val))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/{val["ann_file"]}', metric=['bbox', 'segm'] if with_masks else 'bbox')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs, val_interval=val_interval)
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best=save_best))

# Norms that keep their statistics need no calibration.
custom_hooks = [hook for hook in _base_.custom_hooks if hook['type'] != 'BNCalibrationHook' or not norm_eval]
