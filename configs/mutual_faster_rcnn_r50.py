# MutualNet with Faster R-CNN R-50-FPN on COCO: widths 0.25 to 1.0, scales 1.0 to 0.4 of images within 1000 x 600 pixels.
_base_ = './_base_/faster_rcnn_r50.py'

widths = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
scales = (1.0, 0.8, 0.6, 0.4)

# Stock weights make poor narrow sub-networks. So no layer is frozen, and the norms use batch statistics.
model = dict(
    backbone=dict(
        type='SlimmableResNet',
        widths=widths,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        frozen_stages=-1,
    ),
    neck=dict(type='SlimmableFPN'),
)

custom_hooks = [
    dict(type='ChannelOrderHook'),  # it leaves slimmable weights as they are
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', scales=scales, num_subnets=4, loss_reduction='sum'),
    dict(type='BNCalibrationHook', num_batches=100),
]

val_cfg = dict(type='SubnetValLoop', num_widths=4)  # 1.0, 0.75, 0.5, 0.25
test_cfg = dict(type='SubnetTestLoop', num_widths=4, scales=scales)
log_processor = dict(type='SubnetLogProcessor')
