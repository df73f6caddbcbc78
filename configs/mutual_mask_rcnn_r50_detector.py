# Scope `detector`: FPN and heads are slimmable too. One checkpoint covers a 10 x range of multiply-adds.
_base_ = './mutual_mask_rcnn_r50.py'

scope = 'detector'  # the paper's scope is 'backbone'
model = dict(
    type='SlimmableDetector',
    detector='MaskRCNN',
    widths={{_base_.widths}},
    scope=scope,
    neck=dict(slim_out=scope == 'detector'),
)
