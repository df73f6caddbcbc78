# MutualNet with VGG-16 on ImageNet: widths 0.25 to 1.0, resolutions 224, 192, 160, 128.
# The authors published no settings for VGG-16. These are their settings for ResNet-50 with a tenth of the learning rate.
# Global pooling and one linear layer replace VGG's three linear layers.
_base_ = './_base_/mutual.py'

model = dict(
    backbone=dict(type='mmdet.SlimmableVGG', depth=16, with_bn=True, widths=_base_.widths, out_indices=(4,)),
    head=dict(in_channels=512),
)

max_epochs = 120
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(end=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.02))
