# Baseline: US-Net (arXiv 1903.05134), the sandwich with every sub-network at 224 pixels.
_base_ = './mutual_mobilenet_v1.py'

_base_.custom_hooks[1].scales = (1.0,)
