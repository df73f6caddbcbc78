# Baseline: a stock network of one width, trained alone on the labels.  WIDTH=0.5 python tools/train.py <this file>
_base_ = './mutual_mobilenet_v2.py'

width = float('{{$WIDTH:0.7}}')

model = dict(
    backbone=dict(_delete_=True, type='mmdet.MobileNetV2', widen_factor=width, out_indices=(7,)),
    head=dict(in_channels=1280),
)

custom_hooks = [dict(type='IterationSeedHook')]
val_cfg = dict(widths=(1.0,))
test_cfg = dict(widths=(1.0,))
work_dir = f'./work_dirs/independent_mobilenet_v2_w{width:g}'
