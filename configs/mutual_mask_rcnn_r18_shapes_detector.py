# The embedded example in scope `detector`: FPN and heads are slimmable too.
_base_ = './mutual_mask_rcnn_r18_shapes.py'

scope = 'detector'  # the paper's scope is 'backbone'
model = dict(
    type='SlimmableDetector',
    detector='MaskRCNN',
    widths={{_base_.widths}},
    scope=scope,
    neck=dict(slim_out=scope == 'detector', norm_cfg=dict(num_groups=6)),  # groups have 8 channels at every width
)
