# Baseline: US-Net (arXiv 1903.05134). The passes are those of MutualNet, all at full scale.
_base_ = './mutual_faster_rcnn_r50.py'

custom_hooks = [
    dict(hook, scales=(1.0,)) if hook['type'] == 'MutualLearningHook' else hook for hook in _base_.custom_hooks
]
