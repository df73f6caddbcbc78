# Deprecated until 0.3, where it goes: the former name of mutual_mask_rcnn_r50_detector.py.
_base_ = './mutual_mask_rcnn_r50_detector.py'
