# A training of benchmarks/miniature.py: the embedded example, with harder data and fewer proposals, minutes on a CPU.
# The variables come from the environment: DETECTOR, METHOD, WIDTH, EPOCHS, CALIBRATE. Other changes are --cfg-options.
_base_ = '../../configs/mutual_mask_rcnn_r18_shapes.py'

detector = '{{$DETECTOR:mask_rcnn}}'
method = '{{$METHOD:mutual}}'
width = float('{{$WIDTH:1.0}}')
independent = method == 'independent'

# Objects over three octaves of size; 300 iterations of 4 images are an epoch.
data_root = 'data/shapes_miniature/'
for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.data_root = data_root
_base_.train_dataloader.dataset.pipeline[3] = dict(type='RandomFlip', prob=0.5)
for evaluator in (_base_.val_evaluator, _base_.test_evaluator):
    evaluator.ann_file = data_root + 'annotations/val.json'

# An independent network is a stock ResNet of its width: a slimmable one at width 1.0 equals it bit for bit.
widths = (1.0,) if independent else _base_.widths
channels = round(32 * width) if independent else 32
scales = _base_.scales if method == 'mutual' else (1.0,)
model = dict(
    backbone=dict(base_channels=channels, widths=widths),
    neck=dict(in_channels=[channels, channels * 2, channels * 4, channels * 8]),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=150), rcnn=dict(sampler=dict(num=32))),
)
if detector == 'faster_rcnn':
    _base_.model.type = 'FasterRCNN'
    _base_.model.roi_head.pop('mask_head')
    _base_.model.roi_head.pop('mask_roi_extractor')
    _base_.train_dataloader.dataset.pipeline[1].with_mask = False
    _base_.test_dataloader.dataset.pipeline[2].with_mask = False
    _base_.val_dataloader.dataset.pipeline[2].with_mask = False
    _base_.val_evaluator.metric = _base_.test_evaluator.metric = 'bbox'

max_epochs = int('{{$EPOCHS:2}}')
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs + 1)
_base_.param_scheduler[1].end = max_epochs

custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', scales=scales, num_subnets=1 if independent else 4),
]
if '{{$CALIBRATE:yes}}' == 'yes':
    custom_hooks.append(dict(type='BNCalibrationHook', num_batches=50))
