"""A pytest plugin that lets mmpretrain be imported where torchvision's operators do not load.

mmpretrain imports torchvision. PyPI's torchvision 0.28.0 is built for CUDA; beside a CPU-only torch 2.13.0 its operators
are missing, and its import fails with "operator torchvision::nms does not exist". No backbone calls them: that they are
declared is enough. Do not use it where torchvision works: it declares them itself.
"""

import torch

BOXES = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
library = torch.library.Library('torchvision', 'DEF')
for operator in ('nms', 'qnms'):
    library.define(operator + BOXES)
