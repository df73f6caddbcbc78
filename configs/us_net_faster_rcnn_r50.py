# Baseline: US-Net (arXiv 1903.05134). The passes are those of MutualNet, all at full scale.
_base_ = './mutual_faster_rcnn_r50.py'

custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', widths=_base_.widths, scales=(1.0,), num_subnets=4, loss_reduction='sum'),
    dict(type='BNCalibrationHook', num_batches=100),
]
