"""Exported detectors where mmmutual is not installed, against the sub-networks that they come from."""

import json

import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from mmmutual.config import scale_pipeline
from mmmutual.deploy import DenseOutputs, export_subnet, input_size, largest_difference
from mmmutual.deploy import export as export_module
from mmmutual.layers import SlimBatchNorm2d
from tests.support.deployed import META, detector_config, run_without_mmmutual, trained
from tests.support.tiny import build_runner

KINDS = {'mask': (0.5, 0.5), 'faster': (0.25, 1.0), 'retinanet': (0.75, 1.0), 'full': (1.0, 1.0)}
KINDS.update(detector_mask=(0.5, 1.0), detector_retinanet=(0.5, 1.0))
PREDICT = """
import json
from pathlib import Path
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.runner import Runner

image, *folders = sys.argv[1:]
for folder in map(Path, folders):
    detector = init_detector(str(folder / 'detector.py'), str(folder / 'detector.pth'), device='cpu')
    result = dict(inference_detector(detector, image).pred_instances.items())
    torch.save(dict(result=result, meta=detector.dataset_meta), folder / 'predictions.pth')
config = Config.fromfile(Path(folders[0]) / 'detector.py')
config.update(work_dir='tested', load_from=str(Path(folders[0]) / 'detector.pth'))
Path('metrics.json').write_text(json.dumps(Runner.from_cfg(config).test()))
assert not any(name.split('.')[0] == 'mmmutual' for name in sys.modules)
"""


@pytest.fixture(scope='module')
def exported(tiny_data, tmp_path_factory):
    """Configs, models and exports of each kind, and what stock mmdet predicts with these."""
    folder = tmp_path_factory.mktemp('exported')
    sources = {}
    for kind, (width, scale) in KINDS.items():
        config = detector_config(kind, tiny_data, folder / 'work')
        model = trained(config, folder / kind / 'source.pth')
        meta = read_checkpoint(folder / kind / 'source.pth')['meta']
        sources[kind] = (config, model, export_subnet(config, model, width, scale, folder / kind, meta))
    image = next((tiny_data / 'val').glob('*.png'))
    run_without_mmmutual(PREDICT, image, *(folder / kind for kind in KINDS), cwd=folder)
    return folder, image, sources


@pytest.mark.parametrize('kind', KINDS)
def test_predictions_without_mmmutual_are_the_subnetworks_bit_for_bit(kind, exported):
    folder, image, sources = exported
    width, scale = KINDS[kind]
    config = sources[kind][0]
    config.test_dataloader = scale_pipeline(config.test_dataloader, scale)
    dynamic = init_detector(config, str(folder / kind / 'source.pth'), device='cpu')
    with mmmutual.use_width(dynamic, width):
        expected = inference_detector(dynamic, str(image)).pred_instances
    stock = torch.load(folder / kind / 'predictions.pth', weights_only=False)
    assert len(expected) == 5 and set(stock['result']) == set(expected.keys())
    for name, value in expected.items():
        assert torch.equal(value, stock['result'][name]), name
    assert stock['meta']['classes'] == META['classes']
    assert sources[kind][2].difference == 0.0 and sources[kind][2].is_stock


def test_stock_evaluation_gives_the_subnetworks_map(exported, tiny_data, tmp_path):
    folder, _, _ = exported
    config = detector_config('mask', tiny_data, tmp_path)
    config.update(load_from=str(folder / 'mask' / 'source.pth'), log_level='ERROR')
    config.test_cfg = dict(type='SubnetTestLoop', widths=(0.5,), scales=(0.5,))
    assert build_runner(config).test() == json.loads((folder / 'metrics.json').read_text())


def narrow_detector(model, ratio: float) -> None:
    """Neck and heads narrow by their own settings."""
    model['type'] = model['detector']
    for name in ('detector', 'widths', 'scope'):
        del model[name]
    channels = int(model.neck.out_channels * ratio)
    del model.neck['slim_out']
    model.neck.update(out_channels=channels, norm_cfg=dict(type='GN', num_groups=channels // 8))
    for head in ('rpn_head', 'bbox_head'):
        if head in model:
            model[head].update(in_channels=channels, feat_channels=channels)
    if 'roi_head' in model:
        for part in model.roi_head.values():
            if isinstance(part, dict) and 'roi_layer' in part:
                part.out_channels = channels
        model.roi_head.bbox_head.update(in_channels=channels, fc_out_channels=int(256 * ratio))
        model.roi_head.mask_head.update(in_channels=channels, conv_out_channels=channels)


@pytest.mark.parametrize('kind', KINDS)
def test_size_and_parameters_are_those_of_the_narrow_network(kind, exported, tmp_path):
    folder, _, sources = exported
    ratio = KINDS[kind][0]
    config, model, result = sources[kind]
    narrow = Config(config.to_dict()).model
    if kind.startswith('detector'):
        narrow_detector(narrow, ratio)
    backbone, neck = narrow['backbone'], narrow['neck']
    del backbone['widths']
    backbone.update(type='ResNet', base_channels=int(32 * ratio))
    neck.update(type='FPN', in_channels=[int(channels * ratio) for channels in neck['in_channels']])
    narrow = MODELS.build(narrow)
    count = [sum(parameter.numel() for parameter in module.parameters()) for module in (narrow, result.detector, model)]
    assert count[0] == count[1] <= count[2]
    assert (count[1] < count[2]) == (ratio < 1)
    checkpoint = read_checkpoint(result.checkpoint_path)
    assert {name: value.shape for name, value in checkpoint['state_dict'].items()} == {
        name: value.shape for name, value in narrow.state_dict().items()
    }
    torch.save(narrow.state_dict(), tmp_path / 'narrow.pth')
    assert abs(result.checkpoint_path.stat().st_size - (tmp_path / 'narrow.pth').stat().st_size) < 10_000
    assert checkpoint['meta'] == dict(dataset_meta=META, subnet=dict(zip(('width', 'scale'), KINDS[kind])))
    assert sorted(path.name for path in (folder / kind).iterdir()) == [
        'detector.pth', 'detector.py', 'predictions.pth', 'source.pth'
    ]  # fmt: skip


def test_statistics_are_those_of_the_width(exported):
    _, model, result = exported[2]['mask']
    state = result.detector.state_dict()
    for name in ('backbone.bn1', 'backbone.layer2.0.downsample.1', 'backbone.layer4.1.bn2'):
        norm = model.get_submodule(name)
        mean, var, tracked = norm.statistics(0.5)
        kept = norm.num_features // 2
        assert torch.equal(state[f'{name}.running_mean'], mean[:kept])
        assert torch.equal(state[f'{name}.running_var'], var[:kept])
        assert not torch.equal(mean, norm.running_mean)


def test_the_model_is_left_as_it_was(exported, tmp_path):
    config, model, _ = exported[2]['mask']
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mmmutual.set_width(model, 0.25)
    export_subnet(config, model.train(), 0.5, 1.0, tmp_path)
    assert mmmutual.get_width(model) == 0.25 and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_batch_norm_in_a_head(tiny_data, tmp_path):
    config = detector_config('mask', tiny_data, tmp_path)
    config.model.roi_head.mask_head.update(norm_cfg=dict(type='SlimBN', widths=(1.0, 0.75, 0.5, 0.25)))
    config.model.roi_head.mask_head.update(conv_cfg=dict(type='SlimConv2d', slim_out=False))
    model = trained(config, tmp_path / 'source.pth')
    result = export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert result.difference == 0.0
    norms = [layer for layer in result.detector.roi_head.mask_head.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and not any(isinstance(layer, SlimBatchNorm2d) for layer in norms)
    source = model.roi_head.mask_head.convs[0].bn.statistics(0.5)[0]
    assert torch.equal(norms[0].running_mean, source)


def test_statistics_that_are_not_there(tiny_data, tmp_path):
    config = detector_config('faster', tiny_data, tmp_path)
    with pytest.raises(ValueError, match=r'width 0\.5 has no batch-norm statistics yet: they exist for \[1\.0\]'):
        export_subnet(config, MODELS.build(config.model), 0.5, 1.0, tmp_path / 'out')
    config.model.backbone.widths = (1.0, 0.25)
    with pytest.raises(ValueError, match=r'width 0\.5 has no batch-norm statistics: this model keeps them for'):
        export_subnet(config, MODELS.build(config.model), 0.5, 1.0, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_config_of_another_model(exported, tmp_path):
    config, model, _ = exported[2]['faster']
    config = Config(config.to_dict())
    config.model.rpn_head.feat_channels = 32
    text = r'rpn_head\.rpn_conv\.weight has the shape \(48, 48, 3, 3\) .* but \(32, 48, 3, 3\) by the config'
    with pytest.raises(ValueError, match=text):
        export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('width', 'error', 'text'),
    [(1.5, ValueError, 'width must be above 0 and at most 1'), ('wide', TypeError, 'width must be a number')],
)
def test_wrong_width(width, error, text, exported, tmp_path):
    config, model, _ = exported[2]['faster']
    with pytest.raises(error, match=text):
        export_subnet(config, model, width, 1.0, tmp_path)


def test_a_config_that_building_has_changed(exported, tmp_path):
    config, model, _ = exported[2]['faster']
    config = Config(config.to_dict())
    config.model.rpn_head.loss_cls.class_weight = torch.ones(2)  # as DETRHead does it
    with pytest.raises(
        ValueError, match=r'changed class_weight in config\.model to a tensor.*Build from copy\.deepcopy'
    ):
        export_subnet(config, model, 0.5, 1.0, tmp_path)


def test_the_data_preprocessor_of_the_whole_config_goes_along(exported, tmp_path):
    config, model, _ = exported[2]['faster']
    config = Config(config.to_dict())
    config.data_preprocessor = config.model.pop('data_preprocessor')
    result = export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert result.difference == 0.0 and result.config.model.data_preprocessor.mean == config.data_preprocessor.mean


def test_a_model_of_several_detectors_has_no_backbone(exported, tmp_path):
    config, model, _ = exported[2]['faster']
    config = Config(config.to_dict())
    config.model = dict(type='SoftTeacher', detector=config.model)
    with pytest.raises(ValueError, match='SoftTeacher has no backbone: export the detector inside it'):
        export_subnet(config, model, 0.5, 1.0, tmp_path)


def test_nothing_is_written_where_outputs_differ(exported, tmp_path, monkeypatch):
    config, model, result = exported[2]['mask']
    cut = export_module.narrow_

    def wrong(narrow, width):
        cut(narrow, width)
        narrow.backbone.bn1.running_mean += 0.1

    monkeypatch.setattr(export_module, 'narrow_', wrong)
    with pytest.raises(
        ValueError, match='outputs of the exported detector and of the sub-network of width 0.5 differ by'
    ):
        export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_scaled_images_are_padded_to_the_sides_that_the_neck_needs(tiny_data, tmp_path):
    config = detector_config('retinanet', tiny_data, tmp_path)
    config.model.neck.upsample_cfg = dict(mode='nearest', scale_factor=2)
    config.model.data_preprocessor.pad_size_divisor = 1
    model = trained(config, tmp_path / 'source.pth')
    result = export_subnet(config, model, 0.5, 0.8, tmp_path)
    assert Config.fromfile(result.config_path).model.data_preprocessor.pad_size_divisor == 32
    assert input_size(result.config) == (64, 64)  # 51 pixels, padded
    image = next((tiny_data / 'val').glob('*.png'))
    detector = init_detector(str(result.config_path), str(result.checkpoint_path), device='cpu')
    assert len(inference_detector(detector, str(image)).pred_instances) == 5


def test_a_broken_write_leaves_the_old_files(exported, tmp_path, monkeypatch):
    config, model, _ = exported[2]['faster']
    for name in export_module.NAMES:
        (tmp_path / name).write_text('old')

    def fail(content, path):
        path.write_text('half')
        raise OSError('no space left')

    monkeypatch.setattr(export_module.torch, 'save', fail)
    with pytest.raises(OSError, match='no space left'):
        export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ('detector.pth', 'old'), ('detector.py', 'old')
    ]  # fmt: skip


def test_differences_are_seen(exported):
    _, model, result = exported[2]['retinanet']
    with mmmutual.use_width(model.eval(), 0.75):
        assert largest_difference(model, result.detector) == 0.0
    with mmmutual.use_width(model, 0.5):
        assert largest_difference(model, result.detector) > 1e-3


def test_a_head_that_needs_more_than_feature_maps_is_compared_by_its_predictions(exported, monkeypatch):
    _, model, result = exported[2]['retinanet']
    metas = []

    def fail(self, image):
        raise TypeError('forward() got a tuple')

    monkeypatch.setattr(DenseOutputs, 'named', fail)
    predict = type(model).test_step

    def note(self, batch):
        metas.append(batch['data_samples'][0].metainfo)
        return predict(self, batch)

    monkeypatch.setattr(type(model), 'test_step', note)
    with mmmutual.use_width(model.eval(), 0.75):
        assert largest_difference(model, result.detector) == 0.0
    with mmmutual.use_width(model, 0.5):
        assert largest_difference(model, result.detector) > 1e-3
    assert all(meta['border'].tolist() == [0, 128, 0, 160] for meta in metas)  # CenterNet reads it
