# A stock detector of benchmarks/elastic.py: the embedded example, or a Faster R-CNN like it, of a backbone width.
# The variables come from the environment: DETECTOR, WIDTH, ITERATIONS. Other changes are --cfg-options.
_base_ = '../../configs/stock_mask_rcnn_r18_shapes.py'

detector = '{{$DETECTOR:mask_rcnn}}'
iterations = int('{{$ITERATIONS:750}}')
channels_out = round(32 * float('{{$WIDTH:1.0}}'))
model = dict(
    backbone=dict(base_channels=channels_out),
    neck=dict(in_channels=[channels_out, channels_out * 2, channels_out * 4, channels_out * 8]),
)
if detector == 'faster_rcnn':
    _base_.model.type = 'FasterRCNN'
    _base_.model.roi_head.pop('mask_head')
    _base_.model.roi_head.pop('mask_roi_extractor')
    _base_.train_dataloader.dataset.pipeline[1].with_mask = False
    _base_.test_dataloader.dataset.pipeline[2].with_mask = False
    _base_.val_dataloader.dataset.pipeline[2].with_mask = False
    _base_.val_evaluator.metric = _base_.test_evaluator.metric = 'bbox'

# An epoch has 250 iterations; fractions of an epoch use the first images of the data set.
max_epochs = -(-iterations // 250)
_base_.train_dataloader.dataset.indices = iterations * 4 // max_epochs
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
_base_.param_scheduler[1].end = max_epochs
