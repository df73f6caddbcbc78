# MutualNet with Mask R-CNN Swin-T-FPN on COCO: widths 0.25 to 1.0, scales 1.0 to 0.4 of images within 1333 x 800 pixels.
# Data, optimizer and 1x schedule are those of mmdet's config.
_base_ = ['mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', './_base_/coco_run.py']

widths = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
scales = (1.0, 0.8, 0.6, 0.4)

model = dict(backbone=dict(type='SlimmableSwin', widths=widths), neck=dict(type='SlimmableFPN'))

# Workers restart in each epoch. Otherwise a resumed run differs from an uninterrupted one.
train_dataloader = dict(persistent_workers=False)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # the gradient is the sum over the passes
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', save_best='coco/bbox_mAP', max_keep_ckpts=3))

# Layer norms have no statistics, so there is nothing to calibrate.
custom_hooks = [
    dict(type='ChannelOrderHook'),  # it leaves slimmable weights as they are
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', scales=scales, num_subnets=4, loss_reduction='sum'),
]

val_cfg = dict(type='SubnetValLoop', num_widths=4)  # 1.0, 0.75, 0.5, 0.25
test_cfg = dict(type='SubnetTestLoop', num_widths=4, scales=scales)
log_processor = dict(type='SubnetLogProcessor')
