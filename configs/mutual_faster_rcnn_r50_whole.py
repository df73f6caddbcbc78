# The same with FPN and heads slimmable too: one checkpoint over a 10 x range of compute.
_base_ = './mutual_faster_rcnn_r50.py'

slim = 'detector'  # 'backbone' is the paper's setting
model = dict(
    type='SlimmableDetector',
    detector='FasterRCNN',
    widths={{_base_.widths}},
    slim=slim,
    neck=dict(slim_out=slim == 'detector'),
)
