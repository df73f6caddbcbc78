import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config

from mmmutual.deploy import DenseOutputs, export_onnx, export_subnet, input_size
from mmmutual.deploy import onnx_export as module
from tests.support.deployed import detector_config, trained


@pytest.fixture(scope='module', params=['mask', 'retinanet'])
def detector(request, tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('onnx')
    config = detector_config(request.param, tiny_data, folder)
    return export_subnet(config, trained(config, folder / 'source.pth'), 0.5, 1.0, folder).detector


def test_onnxruntime_computes_what_pytorch_does(detector, tmp_path):
    path = tmp_path / 'dense.onnx'
    assert export_onnx(detector, path, (64, 96), dict(width=0.5)) < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    head = 'rpn_head' if hasattr(detector, 'rpn_head') else 'bbox_head'
    levels = range(detector.neck.num_outs)
    names = [f'neck_{level}' for level in levels]
    names += [f'{head}_{output}_{level}' for output in range(2) for level in levels]
    assert [output.name for output in session.get_outputs()] == names
    assert [(value.name, value.shape) for value in session.get_inputs()] == [('image', [1, 3, 64, 96])]
    image = torch.randn(1, 3, 64, 96) * 2
    with torch.no_grad():
        features = detector.extract_feat(image)
        scores, boxes = getattr(detector, head)(features)
        computed = session.run(None, {'image': image.numpy()})
    for ours, theirs in zip(computed, (*features, *scores, *boxes)):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)
    parameters = sum(value.numel() for value in DenseOutputs(detector).detector.state_dict().values()) * 4
    assert path.stat().st_size < parameters + 500_000


@pytest.mark.parametrize(
    ('kind', 'width', 'is_stock'), [('swin', 2 / 3, True), ('swin', 0.5, False), ('pvt', 0.5, True)]
)
def test_transformers(kind, width, is_stock, tiny_data, tmp_path):
    """A stock config describes whole heads that have as many channels as the tokens."""
    config = detector_config(kind, tiny_data, tmp_path)
    exported = export_subnet(config, trained(config, tmp_path / 'source.pth'), width, 1.0, tmp_path)
    assert exported.is_stock == is_stock and exported.difference < 1e-5
    backbone = exported.config.model.backbone
    if is_stock:
        assert backbone.num_heads == ([2, 4, 8, 16] if kind == 'swin' else [1, 2, 4, 8])
    if width != 2 / 3:
        assert export_onnx(exported.detector, tmp_path / 'dense.onnx', (64, 64)) < 1e-4


def test_how_to_make_the_input_is_in_the_file(detector, tmp_path):
    export_onnx(detector, tmp_path / 'dense.onnx', (32, 32), dict(width=0.5, scale=1.0))
    info = {entry.key: entry.value for entry in onnx.load(tmp_path / 'dense.onnx').metadata_props}
    assert (info['width'], info['scale'], info['channels']) == ('0.5', '1.0', 'RGB')
    assert info['mean'].startswith('[123.67') and info['std'].startswith('[58.39')


def test_nothing_is_written_where_onnxruntime_computes_otherwise(detector, tmp_path, monkeypatch):
    trace = module._trace

    def wrong(model, image, names):
        program = trace(model, image, names)
        for tensor in program.graph.initializer:
            if len(tensor.dims) == 4:
                tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * 1.5).tobytes()
        return program

    monkeypatch.setattr(module, '_trace', wrong)
    with pytest.raises(ValueError, match='the outputs of onnxruntime and PyTorch differ by'):
        export_onnx(detector, tmp_path / 'dense.onnx', (32, 32))
    assert not list(tmp_path.iterdir())


def test_the_input_size_is_the_padded_test_size(root):
    config = Config.fromfile(root / 'configs' / 'mutual_mask_rcnn_r50.py')
    assert input_size(config) == (608, 1024)
    config.test_dataloader.dataset.pipeline.pop(1)
    with pytest.raises(ValueError, match='the test pipeline has no Resize with a scale: pass --input-size'):
        input_size(config)


@pytest.mark.parametrize('size', [(64,), (0, 64), (64.0, 64)])
def test_wrong_size(size, detector, tmp_path):
    with pytest.raises(ValueError, match='the input size must be height and width in pixels'):
        export_onnx(detector, tmp_path / 'dense.onnx', size)


def test_a_head_that_needs_more_than_feature_maps(detector, tmp_path, monkeypatch):
    head = 'rpn_head' if hasattr(detector, 'rpn_head') else 'bbox_head'
    monkeypatch.setattr(getattr(detector, head), 'forward', lambda features, queries: features)
    with pytest.raises(ValueError, match=r'has a head that needs more than feature maps .*with --format mmdet'):
        export_onnx(detector, tmp_path / 'dense.onnx', (32, 32))


def test_missing_packages_are_named(detector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r'needs onnx, onnxscript and onnxruntime .* -r requirements/deploy\.txt'):
        export_onnx(detector, tmp_path / 'dense.onnx', (32, 32))
