# A stock detector of benchmarks/photographs.py, of a backbone width: Mask R-CNN for nuclei, Faster R-CNN for blood.
# The variables come from the environment: DATA, DATA_SET, WIDTH, EPOCHS. Other changes are --cfg-options.
_base_ = '../../configs/_base_/mask_rcnn_r18_shapes.py'

data_set = '{{$DATA_SET:bccd}}'
data_root = '{{$DATA:data/photographs}}/' + data_set + '/'
data_help = 'docs/results_photographs.md says where the images come from and which command converts them'
masks = data_set == 'nuclei'
classes = ('nucleus',) if masks else ('RBC', 'WBC', 'Platelets')
image_scale = (256, 256) if masks else (192, 144)
training_size = (160, 160) if masks else (144, 192)  # height, width

channels_out = round(32 * float('{{$WIDTH:1.0}}'))
model = dict(
    type='MaskRCNN' if masks else 'FasterRCNN',
    backbone=dict(base_channels=channels_out),
    neck=dict(in_channels=[channels_out, channels_out * 2, channels_out * 4, channels_out * 8]),
    roi_head=dict(bbox_head=dict(num_classes=len(classes))),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=150), rcnn=dict(max_per_img=100)),
)
if masks:
    _base_.model.roi_head.mask_head.num_classes = len(classes)
else:
    del _base_.model.roi_head.mask_head, _base_.model.roi_head.mask_roi_extractor

for part, loader in (('train', _base_.train_dataloader), ('val', _base_.val_dataloader)):
    loader.dataset.update(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=f'annotations/instances_{part}.json',
        data_prefix=dict(img=f'{part}/'),
    )
    for step in loader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = image_scale
        if step.type == 'LoadAnnotations':
            step.with_mask = masks
del part, loader, step
metrics = ['bbox', 'segm'] if masks else ['bbox']
if masks:  # nuclei are small: a part of an image in training, as large as in a test
    _base_.train_dataloader.dataset.pipeline.insert(
        3, dict(type='RandomCrop', crop_size=training_size, allow_negative_crop=True)
    )
_base_.test_dataloader = _base_.val_dataloader
_base_.val_evaluator.update(ann_file=f'{data_root}annotations/instances_val.json', metric=metrics)
_base_.test_evaluator = _base_.val_evaluator

max_epochs = int('{{$EPOCHS:16}}')
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs + 1)
_base_.param_scheduler[1].end = max_epochs
default_hooks = dict(checkpoint=dict(interval=max_epochs))  # each checkpoint of a mutual training is calibrated first
