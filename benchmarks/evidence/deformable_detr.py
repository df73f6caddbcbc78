# A training of benchmarks/other_detectors.py: a small two-stage Deformable DETR on the shapes, from random weights.
_base_ = '../../configs/stock_mask_rcnn_r18_shapes.py'

from mmengine.hub import get_config  # noqa: E402 (MMEngine reads a file that starts with an import in another way)

channels, heads, hidden = 256, 8, 256  # mmdet's two stages need 256 channels
model = get_config('mmdet::deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py').model
model.update(_delete_=True, num_queries=20, num_feature_levels=3)
model.backbone.update(depth=18, base_channels=32, out_indices=(2, 3), frozen_stages=-1, norm_eval=False, init_cfg=None)
model.backbone.update(norm_cfg=dict(type='BN'))
model.neck.update(in_channels=[128, 256], out_channels=channels, num_outs=3)
model.neck.update(norm_cfg=dict(type='GN', num_groups=32))
attention = dict(embed_dims=channels, num_heads=heads, num_levels=3, dropout=0.0)
for part in (model.encoder, model.decoder):
    part.num_layers = 2
    part.layer_cfg.ffn_cfg.update(embed_dims=channels, feedforward_channels=hidden, ffn_drop=0.0)
model.encoder.layer_cfg.self_attn_cfg.update(attention)
model.decoder.layer_cfg.cross_attn_cfg.update(attention)
model.decoder.layer_cfg.self_attn_cfg.update(embed_dims=channels, num_heads=heads, dropout=0.0)
model.positional_encoding.num_feats = channels // 2
model.bbox_head.update(num_classes=len(_base_.classes), embed_dims=channels)
model.test_cfg.max_per_img = 15
del part

_base_.train_dataloader.dataset.pipeline[1].with_mask = False
_base_.test_dataloader.dataset.pipeline[2].with_mask = False
_base_.val_dataloader.dataset.pipeline[2].with_mask = False
_base_.val_evaluator.metric = _base_.test_evaluator.metric = 'bbox'

max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs + 1)
_base_.param_scheduler[1].end = max_epochs
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4), clip_grad=dict(max_norm=0.1))
