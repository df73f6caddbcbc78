# A training of benchmarks/other_detectors.py: mmdet's RTMDet-tiny on the shapes, from random weights, without Mosaic.
_base_ = '../../configs/stock_mask_rcnn_r18_shapes.py'

from mmengine.hub import get_config  # noqa: E402 (MMEngine reads a file that starts with an import in another way)

stock = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
model = stock.model
model.update(_delete_=True)
model.backbone.update(init_cfg=None)
model.bbox_head.update(num_classes=len(_base_.classes))
custom_hooks = [hook for hook in stock.custom_hooks if hook.type == 'EMAHook']
del stock

_base_.train_dataloader.dataset.pipeline[1].with_mask = False
_base_.test_dataloader.dataset.pipeline[2].with_mask = False
_base_.val_dataloader.dataset.pipeline[2].with_mask = False
_base_.val_evaluator.metric = _base_.test_evaluator.metric = 'bbox'

max_epochs = 2
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs + 1)
_base_.param_scheduler[1].end = max_epochs
