# Baseline: one width, trained alone on the labels.  WIDTH=0.5 python tools/train.py <this file>
# mmcv's VGG has one width, so this is the sub-network of the slimmable one, which no other is trained with.
_base_ = './mutual_vgg16.py'

width = float('{{$WIDTH:0.25}}')

model = dict(backbone=dict(widths=(width,)))
custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', widths=(width,), num_subnets=1),
]
val_cfg = dict(widths=(width,))
test_cfg = dict(widths=(width,))
work_dir = f'./work_dirs/independent_vgg16_w{width:g}'
