"""Configs of small detectors of every backbone and neck that slims, for export and ONNX."""

from __future__ import annotations

from mmengine.config import Config

WIDTHS = (1.0, 0.5, 0.3)
SIZE = (96, 64)
FPN = dict(type='FPN', out_channels=32, num_outs=4)
BN = dict(type='BN')
YOLOX_TEST = dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.65), max_per_img=5)
BACKBONES = {
    'ResNet': (dict(depth=18, base_channels=32), [32, 64, 128, 256]),
    'ResNetV1d': (dict(depth=50, base_channels=32, stem_channels=32), [128, 256, 512, 1024]),
    'ResNeXt': (dict(depth=50, base_channels=32, groups=8, base_width=4), [128, 256, 512, 1024]),
    'RegNet': (dict(arch=dict(w0=32, wa=32, wm=2.0, group_w=8, depth=8, bot_mul=1.0)), [32, 64, 128, 256]),
    'Res2Net': (dict(depth=50, base_channels=32, base_width=16, scales=4), [128, 256, 512, 1024]),
    'HRNet': (
        dict(
            extra={
                f'stage{stage}': dict(
                    num_modules=1,
                    num_branches=stage,
                    block='BOTTLENECK' if stage == 1 else 'BASIC',
                    num_blocks=(1,) * stage,
                    num_channels=(32,) if stage == 1 else (16, 32, 64, 128)[:stage],
                )
                for stage in range(1, 5)
            }
        ),
        [16, 32, 64, 128],
    ),
    'MobileNetV1': (dict(widen_factor=0.5), [64, 128, 256, 512]),
    'MobileNetV2': (dict(out_indices=(1, 2, 4, 6)), [24, 32, 96, 320]),
    'VGG': (dict(depth=11, with_bn=True), [128, 256, 512, 512]),
    'Darknet': (dict(depth=53), [256, 512, 1024]),
    'CSPDarknet': (dict(deepen_factor=0.33, widen_factor=0.25), [64, 128, 256]),
    'CSPNeXt': (dict(deepen_factor=0.167, widen_factor=0.5), [128, 256, 512]),
}


def retina_head(**options) -> dict:
    """A head of one convolution, for a neck of 32 channels."""
    return dict(dict(type='RetinaHead', num_classes=4, in_channels=32, feat_channels=32, stacked_convs=1), **options)


def detector_of(backbone: str, scope: str, classes: bool = False, head: str = '') -> Config:
    """The config of a small detector with a backbone: a ``SlimmableDetector``, or of slimmable classes."""
    options, channels = BACKBONES[backbone]
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True, pad_size_divisor=32
        ),
        backbone=dict(type=backbone, **options),
        neck=dict(FPN, in_channels=channels),
        bbox_head=retina_head(
            anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[4, 8, 16, 32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        test_cfg=dict(nms_pre=50, min_bbox_size=0, **YOLOX_TEST),
    )
    if backbone == 'HRNet':
        model['neck'] = dict(type='HRFPN', in_channels=channels, out_channels=32, num_outs=4)
    if backbone == 'Darknet':
        model.update(
            type='YOLOV3',
            neck=dict(type='YOLOV3Neck', num_scales=3, in_channels=[1024, 512, 256], out_channels=[64, 32, 16]),
            bbox_head=dict(type='YOLOV3Head', num_classes=4, in_channels=[64, 32, 16], out_channels=[64, 32, 16]),
            test_cfg=dict(nms_pre=50, conf_thr=0.0, min_bbox_size=0, **YOLOX_TEST),
        )
    if backbone == 'CSPDarknet':
        model.update(
            type='YOLOX',
            neck=dict(type='YOLOXPAFPN', in_channels=channels, out_channels=64, num_csp_blocks=1),
            bbox_head=dict(type='YOLOXHead', num_classes=4, in_channels=64, feat_channels=64),
            test_cfg=YOLOX_TEST,
        )
    if backbone == 'CSPNeXt':
        model.update(
            type='RTMDet',
            neck=dict(type='CSPNeXtPAFPN', in_channels=channels, out_channels=64, num_csp_blocks=1),
            bbox_head=dict(
                type='RTMDetSepBNHead',
                num_classes=4,
                in_channels=64,
                feat_channels=64,
                exp_on_reg=True,
                share_conv=True,
                norm_cfg=BN,
                anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
                bbox_coder=dict(type='DistancePointBBoxCoder'),
            ),
            test_cfg=dict(nms_pre=50, min_bbox_size=0, **YOLOX_TEST),
        )
    if head == 'FasterRCNN':
        _two_stage(model)
    if classes:
        model['backbone'].update(type=f'Slimmable{backbone}', widths=WIDTHS)
        model['neck'].update(type=f'Slimmable{model["neck"]["type"]}', widths=WIDTHS)
    else:
        model.update(type='SlimmableDetector', detector=model['type'], widths=WIDTHS, scope=scope)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=SIZE, keep_ratio=False),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]
    dataset = dict(type='CocoDataset', pipeline=pipeline)
    return Config(dict(default_scope='mmdet', model=model, test_dataloader=dict(batch_size=1, dataset=dataset)))


def stock_detector() -> dict:
    """The config of a small stock RetinaNet."""
    model = detector_of('ResNet', 'backbone').model
    kept = {key: value for key, value in model.items() if key not in ('detector', 'widths', 'slim', 'scope')}
    return dict(kept, type=model.detector)


def shrink_detr(model: Config) -> None:
    """Make a detector of queries small, in place: one layer each of 32 channels, and 5 queries."""
    model.num_queries = 5
    model.encoder.num_layers = model.decoder.num_layers = 1
    for part in (model.encoder, model.decoder):
        for name, layer in part.layer_cfg.items():
            layer.update(dict(feedforward_channels=64) if name == 'ffn_cfg' else dict(num_heads=2), embed_dims=32)
    model.positional_encoding.num_feats = 16
    model.bbox_head.embed_dims = 32


def _two_stage(model: dict) -> None:
    """Replace the head by those of Faster R-CNN."""
    coder = dict(type='DeltaXYWHBBoxCoder')
    del model['bbox_head']
    nms = dict(type='nms', iou_threshold=0.7)
    model.update(
        type='FasterRCNN',
        train_cfg=None,
        rpn_head=dict(
            type='RPNHead',
            in_channels=32,
            feat_channels=32,
            anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32]),
            bbox_coder=coder,
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=32,
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead', in_channels=32, fc_out_channels=64, num_classes=4, bbox_coder=coder
            ),
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=50, max_per_img=20, min_bbox_size=0, nms=nms),
            rcnn=dict(score_thr=0.0, nms=nms, max_per_img=5),
        ),
    )
