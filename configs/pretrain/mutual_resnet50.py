# MutualNet with ResNet-50 on ImageNet: widths 0.25 to 1.0, resolutions 224, 192, 160, 128.
# Epochs, learning rate and batch size are those of the authors' apps/resnet50.yml.
_base_ = './_base_/mutual.py'

model = dict(
    backbone=dict(
        type='mmdet.SlimmableResNet',
        depth=50,
        widths=_base_.widths,
        out_indices=(3,),
        norm_eval=False,
        frozen_stages=-1,
        zero_init_residual=False,
    ),
    head=dict(in_channels=2048),
)

max_epochs = 120
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(end=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.2))
