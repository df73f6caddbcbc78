# Baseline: the network of one width, trained alone on the labels.
# Run it with  WIDTH=0.8 python tools/train.py <this file>
_base_ = './mutual_mobilenet_v2.py'

width = float('{{$WIDTH:0.7}}')

# The network is stock, and 1.0 is its only width. The test calibrates it at each scale, like the sub-networks.
model = dict(backbone=dict(widen_factor=width, widths=(1.0,)))  # the last convolution has 1280 outputs at every width

custom_hooks = [dict(type='IterationSeedHook')]
work_dir = f'./work_dirs/independent_mobilenet_v2_w{width:g}'
