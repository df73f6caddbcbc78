# MutualNet with MobileNet v2 on ImageNet: widths 0.7 to 1.0, resolutions 224, 192, 160, 128.
# Epochs, learning rate, batch size, widths and crops are those of the authors' apps/mobilenet_v2.yml.
_base_ = './_base_/mutual.py'

widths = tuple(round(1.0 - 0.025 * step, 3) for step in range(13))  # the authors draw any width in the range

model = dict(
    backbone=dict(type='mmdet.SlimmableMobileNetV2', widths=widths, out_indices=(7,)),
    head=dict(in_channels=1280),
)
_base_.train_dataloader.dataset.pipeline[1].crop_ratio_range = (0.25, 1.0)

max_epochs = 250
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(end=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.5))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
