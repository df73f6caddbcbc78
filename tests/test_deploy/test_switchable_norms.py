"""A detector whose batch norms have a separate weight and bias at each width: exported, counted, calibrated."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

import mmmutual
from mmmutual.deploy import export_subnet
from mmmutual.evaluation import count_parameters
from tests.support.deployed import detector_config, trained


@pytest.fixture(scope='module')
def detector(tiny_data, tmp_path_factory):
    """Its config and the detector; all of its parameters and statistics differ from width to width."""
    folder = tmp_path_factory.mktemp('switchable')
    config = detector_config('retinanet', tiny_data, folder)
    config.model.backbone.norm_cfg = dict(type='SwitchableBN')
    model = trained(config, folder / 'source.pth')
    for name, parameter in model.named_parameters():
        if '_at_' in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return config, model


def test_a_subnetwork_is_exported_with_its_own_parameters(detector, tmp_path):
    config, model = detector
    result = export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert result.difference == 0.0 and result.config.model.backbone.norm_cfg == dict(type='BN')
    exported, own = result.detector.backbone.bn1, model.backbone.bn1
    assert torch.equal(exported.weight, own.weight_at_0_5[:16]) and not torch.equal(exported.weight, own.weight[:16])
    with mmmutual.use_width(model, 0.5):
        assert count_parameters(model) == sum(parameter.numel() for parameter in result.detector.parameters())


def test_calibration_runs_on_the_widths_own_parameters(detector, tmp_path):
    """Its statistics are those of one batch through the exported network."""
    config, model = detector[0], copy.deepcopy(detector[1])
    stock = export_subnet(config, model, 0.5, 1.0, tmp_path).detector.backbone
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData()
    batch = dict(inputs=[torch.randint(256, (3, 64, 64)) for _ in range(4)])
    batch['data_samples'] = [copy.deepcopy(sample) for _ in range(4)]
    mmmutual.calibrate(model, [batch], widths=(0.5,))
    norms = {name: layer for name, layer in stock.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for norm in norms.values():
        norm.train().momentum = 1.0
    stock(model.data_preprocessor(batch)['inputs'])
    for name, norm in norms.items():
        mean, var, _ = model.backbone.get_submodule(name).statistics(0.5)
        torch.testing.assert_close(mean[: norm.num_features], norm.running_mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(var[: norm.num_features], norm.running_var, atol=1e-5, rtol=1e-4)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all('at_0_5' in name and 'weight' not in name and 'bias' not in name for name in changed)
    with pytest.raises(ValueError, match='width 0.4 has no weight and bias:'):
        mmmutual.calibrate(model, [batch], widths=(0.5, 0.4))
    with pytest.raises(ValueError, match='width 0.4 has no batch-norm statistics'):
        mmmutual.set_width(model, 0.4)
