"""Ten of mmdet's own configs, made mutual; tools/misc/check_mmdet_configs.py checks one of each family."""

import json

import pytest

from mmmutual.testing.config_survey import families, outcome

TEN = {
    'one_stage': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'no_neck': 'rpn/rpn_r50-caffe-c4_1x_coco.py',
    'deformable_convolutions': 'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    'context_blocks': 'gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco.py',
    'panoptic': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'several_necks': 'libra_rcnn/libra-fast-rcnn_r50_fpn_1x_coco.py',
    'transformer': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'mask_transformer': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'CSPNeXt': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'CSPDarknet': 'yolox/yolox_tiny_8xb8-300e_coco.py',
}
SCOPE_DETECTOR = ('one_stage', 'context_blocks', 'transformer', 'CSPNeXt', 'CSPDarknet')


@pytest.mark.parametrize('kind', TEN)
def test_is_stock_at_width_one_and_trains_mutually(kind):
    assert outcome(f'mmdet::{TEN[kind]}').reason == ''


@pytest.mark.parametrize('kind', SCOPE_DETECTOR)
def test_scope_detector(kind):
    result = outcome(f'mmdet::{TEN[kind]}', 'detector')
    assert result.reason == '' and result.share > 0


def test_the_results_in_the_docs_have_each_folder(root):
    kept = json.loads((root / 'benchmarks' / 'results' / 'survey' / 'mmdet_configs.json').read_text())['folders']
    assert set(families()) <= set(kept)  # another version of mmdet may have fewer
