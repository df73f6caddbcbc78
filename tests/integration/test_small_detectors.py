"""Every backbone and neck that slims is exported: bit for bit, as a stock config where there is one, and as ONNX."""

import functools

import pytest
import torch
from mmdet.apis import init_detector

import mmmutual
from mmmutual.deploy import export_onnx, export_subnet, largest_difference
from tests.support.deployed import trained
from tests.support.small_detectors import BACKBONES, detector_of

EVERYWHERE = (
    'ResNet',
    'ResNetV1d',
    'ResNeXt',
    'RegNet',
    'Res2Net',
    'MobileNetV2',
)  # a stock config has the channels of width 0.5
WITH_SCOPE_DETECTOR = ('CSPDarknet', 'CSPNeXt')  # their necks concatenate narrow and full levels otherwise
CASES = [(name, kind, 0.5) for name in BACKBONES if name != 'VGG' for kind in ('backbone', 'detector')]
CASES += [(name, 'classes', 0.5) for name in ('ResNet', 'VGG', 'MobileNetV2', 'Res2Net', 'CSPNeXt')]
CASES += [('ResNet', 'backbone', 0.3), ('CSPNeXt', 'detector', 0.3), ('ResNet', 'two stages', 0.5)]


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A detector and its export, of a backbone, a scope and a width; each is made once."""

    @functools.cache
    def export(backbone, kind, width):
        folder = tmp_path_factory.mktemp('exported')
        head = 'FasterRCNN' if kind == 'two stages' else ''
        scope = 'detector' if kind == 'two stages' else kind
        config = detector_of(backbone, scope, classes=kind == 'classes', head=head)
        model = trained(config, folder / 'source.pth')
        return model, export_subnet(config, model, width, 1.0, folder)

    return export


@pytest.mark.parametrize(('backbone', 'kind', 'width'), CASES)
def test_every_backbone_is_exported_bit_for_bit(backbone, kind, width, exported):
    model, result = exported(backbone, kind, width)
    assert result.difference == 0.0
    everywhere = backbone in EVERYWHERE or (backbone in WITH_SCOPE_DETECTOR and kind == 'detector')
    assert result.is_stock == (width == 0.5 and everywhere)
    detector = init_detector(str(result.config_path), str(result.checkpoint_path), device='cpu')
    with mmmutual.use_width(model, width):
        assert largest_difference(model, detector) == 0.0
    own = {type(module).__name__ for module in detector.modules() if type(module).__module__.startswith('mmmutual')}
    assert own <= {'MobileNetV1', f'Slimmable{backbone}', 'SlimmableCSPNeXtPAFPN', 'SlimmableFPN'}
    assert result.is_stock == ('mmmutual' not in result.config_path.read_text())
    assert not own or not result.is_stock


def test_mobilenet_v2_has_a_stock_config_as_a_class(exported):
    result = exported('MobileNetV2', 'classes', 0.5)[1]
    assert result.is_stock and result.config.model.backbone.widen_factor == 0.5


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.filterwarnings('ignore')
def test_the_dense_part_is_exported_to_onnx(backbone, exported, tmp_path):
    detector = exported(backbone, 'classes' if backbone == 'VGG' else 'detector', 0.5)[1].detector
    assert export_onnx(detector, tmp_path / 'dense.onnx', (32, 32)) < 1e-4


def test_a_stock_config_of_the_same_shapes_that_computes_something_else_is_not_written(tmp_path):
    """At width 0.3 a stock MobileNetV2 has a shortcut where two rounded numbers are equal."""
    config = detector_of('MobileNetV2', 'backbone', classes=True)
    config.model.update(backbone=dict(config.model.backbone, widths=(1.0, 0.35)))
    config.model.neck.widths = (1.0, 0.35)
    result = export_subnet(config, trained(config, tmp_path / 'source.pth'), 0.35, 1.0, tmp_path)
    assert result.difference == 0.0


def test_the_random_state_of_the_caller_stays(tmp_path):
    config = detector_of('ResNet', 'backbone')
    model = trained(config, tmp_path / 'source.pth')
    state = torch.get_rng_state()
    export_subnet(config, model, 0.5, 1.0, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
