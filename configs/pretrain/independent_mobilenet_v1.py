# Baseline: the network of one width, trained alone on the labels.
# Run it with  WIDTH=0.5 python tools/train.py <this file>
_base_ = './mutual_mobilenet_v1.py'

width = float('{{$WIDTH:0.25}}')

# The network is stock, and 1.0 is its only width. The test calibrates it at each scale, like the sub-networks.
model = dict(backbone=dict(widen_factor=width, widths=(1.0,)), head=dict(in_channels=int(1024 * width)))

custom_hooks = [dict(type='IterationSeedHook')]
work_dir = f'./work_dirs/independent_mobilenet_v1_w{width:g}'
