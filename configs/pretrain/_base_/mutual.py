# MutualNet on ImageNet: widths 0.25 to 1.0, resolutions 224, 192, 160, 128. Each config builds its backbone for these widths.
_base_ = './imagenet.py'

widths = tuple(round(1.0 - 0.025 * step, 3) for step in range(31))  # the authors draw any width in the range
scales = (1.0, 192 / 224, 160 / 224, 128 / 224)

custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(
        type='MutualLearningHook',
        scales=scales,
        num_subnets=4,
        loss_reduction='sum',
        distill=dict(type='SoftLabelDistillation'),
    ),
    dict(type='BNCalibrationHook', num_batches=100),
]
val_cfg = dict(type='SubnetValLoop', num_widths=4)
test_cfg = dict(type='SubnetTestLoop', num_widths=4, scales=scales, calibration_batches=100)
