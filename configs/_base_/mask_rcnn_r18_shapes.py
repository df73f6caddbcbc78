# The detector of the embedded example, stock: a small Mask R-CNN R-18-FPN on the drawn shapes.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']

data_root = 'data/shapes/'
data_help = 'Draw the data set, it takes seconds:  python tools/misc/draw_shapes.py'
classes = ('striped circle', 'striped triangle', 'solid circle', 'solid triangle')
metainfo = dict(classes=classes)

# R-18 with half the channels, trained from random weights in minutes. The neck has group norms. The numbers of RoIs suit
# images of 128 pixels with a few objects. RoIAlign and the mask head need most of a CPU's time, so each RoI bin has one
# sample.
channels = 48
roi_extractor = dict(out_channels=channels, roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        norm_eval=False,
        frozen_stages=-1,
        zero_init_residual=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=channels,
        norm_cfg=dict(type='GN', num_groups=8),
    ),
    rpn_head=dict(in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(
            in_channels=channels,
            fc_out_channels=256,
            num_classes=len(classes),
            reg_class_agnostic=True,
            loss_bbox=dict(loss_weight=2.0),
        ),
        mask_roi_extractor=roi_extractor,
        mask_head=dict(in_channels=channels, conv_out_channels=channels, num_convs=2, num_classes=len(classes)),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=150, nms=dict(iou_threshold=0.6)),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=128, max_per_img=64), rcnn=dict(max_per_img=15)),
)

image_scale = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=image_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),  # shapes have no upright side
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator

max_epochs = 4
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-2),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True
    ),
]

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
