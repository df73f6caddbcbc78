# The embedded example: MutualNet with a small ResNet-18 on scikit-learn's digits. Training takes minutes on a CPU.
# mutual_mask_rcnn_r18_shapes.py can start from its backbone: see docs/pretraining.md.
_base_ = './_base_/mutual.py'

widths = (1.0, 0.75, 0.5, 0.25)
scales = (1.0, 0.75, 0.5)

model = dict(
    backbone=dict(
        type='mmdet.SlimmableResNet',
        depth=18,
        base_channels=32,
        widths=widths,
        out_indices=(3,),
        norm_eval=False,
        frozen_stages=-1,
        zero_init_residual=False,
    ),
    head=dict(in_channels=256, num_classes=10, topk=(1,)),
)

image_size = 32
train_pipeline = [
    dict(type='RandomCrop', crop_size=image_size, padding=4),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=image_size),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(_delete_=True, type='DigitsDataset', split='train', size=image_size, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(_delete_=True, type='DigitsDataset', split='test', size=image_size, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

settings = dict(MutualLearningHook=dict(scales=scales), BNCalibrationHook=dict(num_batches=19))
custom_hooks = [dict(hook, **settings.get(hook['type'], {})) for hook in _base_.custom_hooks]
test_cfg = dict(scales=scales, calibration_batches=19)

max_epochs = 10
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(end=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.05))
default_hooks = dict(logger=dict(interval=6), checkpoint=dict(interval=max_epochs))
