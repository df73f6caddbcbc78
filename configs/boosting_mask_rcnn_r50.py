# Mask R-CNN R-50-FPN of full width, improved by training with sub-networks of widths 0.9 to 1.0. Only width 1.0 is used.
_base_ = './mutual_mask_rcnn_r50.py'

widths = (1.0, 0.975, 0.95, 0.925, 0.9)
model = dict(backbone=dict(widths=widths))

# The widest alone is calibrated and evaluated.
custom_hooks = [
    dict(hook, widths=(1.0,)) if hook['type'] == 'BNCalibrationHook' else hook for hook in _base_.custom_hooks
]
val_cfg = dict(num_widths=1)
test_cfg = dict(num_widths=1, scales=(1.0,))
