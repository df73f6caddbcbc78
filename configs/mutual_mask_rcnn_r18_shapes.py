# The embedded example: a small Mask R-CNN R-18-FPN on the drawn shapes. Training takes minutes on a CPU.
_base_ = './_base_/mask_rcnn_r18_shapes.py'
custom_imports = dict(imports=['mmmutual'], allow_failed_imports=False)

widths = (1.0, 0.75, 0.5, 0.25)
scales = (1.0, 0.75, 0.5)

model = dict(backbone=dict(type='SlimmableResNet', widths=widths), neck=dict(type='SlimmableFPN'))

val_cfg = dict(type='SubnetValLoop')
test_cfg = dict(type='SubnetTestLoop', scales=scales)

# Each iteration has three passes instead of the paper's four, to save time.
custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', scales=scales, num_subnets=3, loss_reduction='sum'),
    dict(type='BNCalibrationHook', num_batches=50),
]
log_processor = dict(type='SubnetLogProcessor', window_size=10)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
