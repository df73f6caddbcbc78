"""Sides that a model needs are found from shapes alone."""

import logging

import pytest
import torch
from mmdet.models import DetTTAModel
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from torch import nn

from mmmutual.engine import image_sides
from mmmutual.engine.image_sides import fit_padding
from mmmutual.evaluation import count_multiply_adds


def rtmdet(**preprocessor) -> nn.Module:
    """A small RTMDet, whose neck concatenates levels of the strides 8, 16 and 32."""
    model = Config.fromstring("_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'", '.py').model
    model.backbone.update(deepen_factor=0.167, widen_factor=0.125, init_cfg=None)
    model.neck.update(in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1)
    model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=4)
    model.data_preprocessor.update(batch_augments=None, **preprocessor)
    return MODELS.build(model)


@pytest.mark.parametrize(('present', 'needed'), [(1, 32), (24, 96), (32, 32), (64, 64)])
@pytest.mark.integration
def test_a_neck_that_concatenates_needs_multiples_of_its_largest_stride(present, needed):
    model = rtmdet(pad_size_divisor=present)
    assert fit_padding(model) == 32
    assert model.data_preprocessor.pad_size_divisor == needed
    images = model.data_preprocessor(dict(inputs=[torch.zeros(3, 205, 97)], data_samples=None))['inputs']
    with torch.no_grad():
        assert len(model.eval().extract_feat(images)) == 3


def test_augmented_tests_pad_for_the_detector_inside_and_are_not_counted():
    model = DetTTAModel(module=rtmdet(), tta_cfg=dict(max_per_img=5))
    fit_padding(model)
    assert model.module.data_preprocessor.pad_size_divisor == 32
    with pytest.raises(ValueError, match='cannot count DetTTAModel: it has no backbone'):
        count_multiply_adds(model, (64, 64))


def test_the_log_says_so_once(monkeypatch):
    said = []
    monkeypatch.setattr(image_sides, 'print_log', lambda text, logger, level: said.append((text, level)))
    model = rtmdet()
    fit_padding(model)
    fit_padding(model)
    assert said == [('RTMDet needs image sides that are multiples of 32: images are padded to them', logging.INFO)]


class Detector(nn.Module):
    """A backbone with a batch norm at stride 8."""

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor()
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, stride, stride), nn.BatchNorm2d(8))
        self.neck = nn.Conv2d(8, 4, 1)


def test_a_model_that_takes_every_size_is_left_as_it_is():
    model = Detector()
    assert fit_padding(model) == 8
    assert model.data_preprocessor.pad_size_divisor == 1


def test_hooks_of_the_user_do_not_see_the_trial():
    model, seen = Detector(), []
    model.backbone.register_forward_pre_hook(lambda layer, args: seen.append(args))
    fit_padding(model)
    assert not seen


def test_multiply_adds_are_those_of_the_padded_image_where_the_model_needs_padding():
    model = rtmdet()
    with pytest.raises(ValueError, match='cannot count neck'):
        count_multiply_adds(model, (205, 97))
    fit_padding(model)
    assert count_multiply_adds(model, (205, 97)) == count_multiply_adds(model, (224, 128))


@pytest.mark.parametrize('part', ['backbone', 'data_preprocessor'])
def test_other_models_are_left_alone(part):
    model = Detector()
    setattr(model, part, nn.Flatten() if part == 'backbone' else nn.Identity())
    model.neck = nn.Linear(1, 1)
    assert fit_padding(model) == 1
