# MutualNet with RTMDet-s on COCO: widths 0.25 to 1.0, scales 1.0 to 0.4 of images of 640 x 640 pixels.
# Data, optimizer, averaging (EMA) and schedule of 300 epochs on 8 x 32 images are those of mmdet's config.
_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', './_base_/coco_run.py']

widths = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
scales = (1.0, 0.8, 0.6, 0.4)

# The neck and the head have batch norms, which need statistics for each width, as the backbone's do.
model = dict(type='SlimmableDetector', detector='RTMDet', widths=widths)

# Workers restart in each epoch. Otherwise a resumed run differs from an uninterrupted one.
train_dataloader = dict(persistent_workers=False)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))  # the gradient is the sum over the passes
auto_scale_lr = dict(base_batch_size=256)  # mmdet's config has 16, that of its base
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', save_best='coco/bbox_mAP'))

custom_hooks = [
    dict(type='ChannelOrderHook'),  # it leaves slimmable weights as they are
    *_base_.custom_hooks,  # EMAHook and PipelineSwitchHook
    dict(type='IterationSeedHook'),
    dict(type='MutualLearningHook', scales=scales, num_subnets=4, loss_reduction='sum'),
    dict(type='BNCalibrationHook', num_batches=100),
]

val_cfg = dict(type='SubnetValLoop', num_widths=4)  # 1.0, 0.75, 0.5, 0.25
test_cfg = dict(type='SubnetTestLoop', num_widths=4, scales=scales)
log_processor = dict(type='SubnetLogProcessor')
