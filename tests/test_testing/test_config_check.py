"""The check behind tools/misc/check_mmdet_configs.py, on one config that passes and one that cannot."""

import pytest

from mmmutual.layers import SlimConv2d
from mmmutual.testing.config_check import check_config
from mmmutual.testing.config_survey import families, write_table


@pytest.mark.integration
def test_a_stock_config_passes():
    assert 0.2 < check_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py') < 0.5


@pytest.mark.integration
def test_a_difference_at_width_one_is_found(monkeypatch):
    exact = SlimConv2d._convolve
    monkeypatch.setattr(SlimConv2d, '_convolve', lambda self, *args: exact(self, *args) * 1.001)
    with pytest.raises(ValueError, match='predictions of width 1.0 differ from those of the stock detector'):
        check_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')


def test_what_cannot_be_made_mutual_is_named():
    with pytest.raises(
        ValueError,
        match=r'SoftTeacher consists of several models \(detector\), .* make a config of its FasterRCNN alone mutual$',
    ):
        check_config('mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py')


@pytest.mark.integration
def test_each_family_has_one_config():
    found = families()
    assert found['retinanet'].startswith('mmdet::retinanet/') and 'r50' in found['retinanet']
    assert {'yolox', 'rtmdet', 'dino', 'mask2former', 'hrnet', 'res2net'} <= set(found)
    assert not {'swin', 'pvt', 'efficientnet'} & set(found)


def test_the_table_counts_its_rows(tmp_path):
    results = {
        'one': dict(config='mmdet::one/one_r50.py', reason='', share=0.416),
        'two': dict(config='mmdet::two/two_r50.py', reason='a | b', share=None),
    }
    write_table(results, tmp_path / 'table.md')
    text = (tmp_path / 'table.md').read_text()
    assert '**1 of 2 pass.**' in text
    assert '| one | `one_r50.py` | 42 % | passes |\n| two | `two_r50.py` |  | a \\| b |\n' in text
