"""The check behind tools/misc/check_mmdet_configs.py, on one config that passes and one that cannot."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmmutual.layers import SlimConv2d
from mmmutual.testing.config_check import check_config
from mmmutual.testing.config_survey import families


@pytest.mark.integration
def test_a_stock_config_passes():
    found = check_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    assert 0.2 < found.share < 0.5 and 1 - found.share < found.remaining < 0.9


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
def test_each_folder_has_one_config():
    found = families()
    assert found['retinanet'] == ('mmdet::retinanet/retinanet_r50-caffe_fpn_1x_coco.py', 'RetinaNet', 'ResNet')
    assert found['swin'].config.startswith('mmdet::swin/mask-rcnn_swin-t-') and 'common' not in found
    assert found['rtmdet'].detector == 'RTMDet'  # not the classifier in a folder inside
    assert (found['bytetrack'].detector, found['qdtrack'].detector) == ('YOLOX', 'QDTrack')  # one model if there is one


@pytest.mark.parametrize(('kind', 'data'), [('CLRNet', 'lanes'), ('Mask2FormerVideo', 'videos')])
def test_models_of_other_data_are_named(kind, data, monkeypatch):
    config = Config(dict(model=dict(type=kind)))
    plan = SimpleNamespace(share=0.5, remaining=lambda width: 0.5)
    monkeypatch.setattr('mmmutual.testing.config_check.load_config', lambda name: config)
    monkeypatch.setattr('mmmutual.testing.config_check.make_mutual_with_plan', lambda *args: (config, plan))
    with pytest.raises(ValueError, match=f'^{kind} can be made mutual, but the check has no {data} for it$'):
        check_config('any')
