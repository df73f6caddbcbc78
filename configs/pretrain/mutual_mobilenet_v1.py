# MutualNet with MobileNet v1 on ImageNet: widths 0.25 to 1.0, resolutions 224, 192, 160, 128.
# Epochs, learning rate, batch size and crops are those of the authors' apps/mobilenet_v1.yml.
_base_ = './_base_/mutual.py'

model = dict(
    backbone=dict(type='mmdet.SlimmableMobileNetV1', widths=_base_.widths, out_indices=(5,)),
    head=dict(in_channels=1024),
)
_base_.train_dataloader.dataset.pipeline[1].crop_ratio_range = (0.25, 1.0)

max_epochs = 250
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(end=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.5))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
