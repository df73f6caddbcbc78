# Baseline: the network of one width, trained alone on the labels.
# Run it with  WIDTH=0.5 python tools/train.py <this file>
_base_ = './mutual_resnet50.py'

width = float('{{$WIDTH:0.25}}')
base_channels = int(64 * width)  # equal to the sub-network's at multiples of 0.125

# The network is stock, and 1.0 is its only width. The test calibrates it at each scale, like the sub-networks.
model = dict(
    backbone=dict(base_channels=base_channels, widths=(1.0,)),
    head=dict(in_channels=base_channels * 32),
)

custom_hooks = [dict(type='IterationSeedHook')]
work_dir = f'./work_dirs/independent_resnet50_w{width:g}'
