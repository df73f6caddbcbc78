# A training of benchmarks/other_detectors.py: the Mask R-CNN of the embedded example, with a small Swin.
_base_ = '../../configs/stock_mask_rcnn_r18_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=32,
        depths=(2, 2, 2, 2),
        num_heads=(2, 4, 8, 16),
        window_size=4,
        drop_path_rate=0.0,
    ),
)

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs + 1)
_base_.param_scheduler[1].end = max_epochs
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-2), clip_grad=dict(max_norm=10))
