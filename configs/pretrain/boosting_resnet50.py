# ResNet-50 of full width, improved by training with sub-networks of widths 0.9 to 1.0. Only width 1.0 is used.
# The width range is that of the authors' published apps/resnet50.yml.
_base_ = './mutual_resnet50.py'

widths = (1.0, 0.975, 0.95, 0.925, 0.9)

model = dict(backbone=dict(widths=widths))
_base_.custom_hooks[1].widths = widths
_base_.custom_hooks[2].widths = (1.0,)
val_cfg = dict(widths=(1.0,))
test_cfg = dict(widths=(1.0,), scales=(1.0,))
