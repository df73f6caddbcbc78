# RetinaNet behind the backbone of the shapes example, which the tests put in. No levels beyond the backbone's: torch 2.13
# on a CPU leaves a bfloat16 gradient of a strided convolution over a single pixel uninitialised.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
custom_imports = dict(imports=['mmmutual'], allow_failed_imports=False)

channels = 48
model = dict(
    neck=dict(
        type='SlimmableFPN',
        in_channels=[32, 64, 128, 256],
        out_channels=channels,
        add_extra_convs=False,
        num_outs=3,
        norm_cfg=dict(type='GN', num_groups=8),
    ),
    bbox_head=dict(
        in_channels=channels, feat_channels=channels, stacked_convs=1, anchor_generator=dict(strides=[8, 16, 32])
    ),
)
