# Baseline: a stock network of one width, trained alone.
# Run it with  WIDTH=0.5 python tools/train.py <this file>
_base_ = './_base_/mask_rcnn_r50.py'

width = float('{{$WIDTH:0.25}}')
base_channels = int(64 * width)  # equal to the sub-network's at multiples of 0.125

# Training is that of the mutual network: no frozen layers, batch statistics. Only width 1.0 has initial weights from ImageNet.
model = dict(
    backbone=dict(
        base_channels=base_channels,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        frozen_stages=-1,
        init_cfg=_base_.model.backbone.init_cfg if width == 1.0 else None,
    ),
    neck=dict(in_channels=[base_channels * 4, base_channels * 8, base_channels * 16, base_channels * 32]),
)

custom_hooks = [dict(type='IterationSeedHook')]
work_dir = f'./work_dirs/independent_mask_rcnn_r50_w{width:g}'
