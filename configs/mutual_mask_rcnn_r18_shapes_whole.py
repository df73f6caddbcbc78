# The embedded example with FPN and heads slimmable too.
_base_ = './mutual_mask_rcnn_r18_shapes.py'

slim = 'detector'  # 'backbone' is the paper's setting
model = dict(
    type='SlimmableDetector',
    detector='MaskRCNN',
    widths={{_base_.widths}},
    slim=slim,
    neck=dict(slim_out=slim == 'detector', norm_cfg=dict(num_groups=6)),  # whole groups of 8 channels at every width
)
