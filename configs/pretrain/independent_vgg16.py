# Baseline: the network of one width, trained alone on the labels.
# Run it with  WIDTH=0.5 python tools/train.py <this file>
# mmcv's VGG has no setting for its width. So the baseline is a sub-network of the slimmable VGG, trained alone.
_base_ = './mutual_vgg16.py'

width = float('{{$WIDTH:0.25}}')

model = dict(backbone=dict(widths=(width,)))
custom_hooks = [
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', num_subnets=1),
]
work_dir = f'./work_dirs/independent_vgg16_w{width:g}'
