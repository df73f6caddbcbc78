# Baseline: a stock network of one width, trained alone on the labels.  WIDTH=0.5 python tools/train.py <this file>
_base_ = './mutual_resnet50.py'

width = float('{{$WIDTH:0.25}}')
base_channels = int(64 * width)  # as the sub-network's for multiples of 0.125

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.ResNet',
        depth=50,
        base_channels=base_channels,
        out_indices=(3,),
        norm_eval=False,
    ),
    head=dict(in_channels=base_channels * 32),
)

custom_hooks = [dict(type='IterationSeedHook')]
val_cfg = dict(widths=(1.0,))
test_cfg = dict(widths=(1.0,))
work_dir = f'./work_dirs/independent_resnet50_w{width:g}'
