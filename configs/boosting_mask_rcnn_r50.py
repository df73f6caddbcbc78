# Mask R-CNN R-50-FPN of full width, improved by training with sub-networks of widths 0.9 to 1.0. Only width 1.0 is used.
_base_ = './mutual_mask_rcnn_r50.py'

widths = (1.0, 0.975, 0.95, 0.925, 0.9)

model = dict(backbone=dict(widths=widths))

custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', widths=widths, scales=_base_.scales, num_subnets=4, loss_reduction='sum'),
    dict(type='BNCalibrationHook', num_batches=100, widths=(1.0,)),
]

val_cfg = dict(widths=(1.0,))
test_cfg = dict(widths=(1.0,), scales=(1.0,))
