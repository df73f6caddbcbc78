# Mask R-CNN R-50-FPN.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './coco_1000x600.py']
