# The detector of the embedded example, stock. tools/elastic.py makes it elastic once it is trained.
_base_ = './_base_/mask_rcnn_r18_shapes.py'
