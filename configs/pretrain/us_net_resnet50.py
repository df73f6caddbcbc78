# Baseline: US-Net (arXiv 1903.05134). The passes are those of MutualNet, all at 224 pixels.
_base_ = './mutual_resnet50.py'

_base_.custom_hooks[1].scales = (1.0,)
