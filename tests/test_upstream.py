"""Private names of upstream packages do what this project needs of them.

Tests of the unpickler and the TorchScript files: test_extract_hostile.py; of backwards: test_stock_tools.py; of the
reader of COCO files: test_coco_reader.py.
"""

import inspect
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.datasets import XMLDataset
from mmdet.evaluation import CocoMetric
from mmdet.models import DetDataPreprocessor
from mmdet.models.roi_heads import CascadeRoIHead, DoubleHeadRoIHead, HybridTaskCascadeRoIHead, StandardRoIHead
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import ImgDataPreprocessor, initialize
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn

from mmmutual.upstream import (
    ARRAY_MODULES,
    TENSOR_BUILDERS,
    VOC_METHODS,
    AnyBatchNorm,
    AnyConv,
    border_padding,
    check_dimensions,
    coco_ground_truth,
    converts_channels,
    counted_once,
    drop_hooks,
    imported_names,
    is_package_error,
    module_state,
    normalizes,
    operators_library,
    output_padding,
    parse_losses,
    sync_batch_norm,
    update_losses,
    watched_box_head,
    write_count,
)


def test_losses_are_split_off_predictions():
    predictions, losses = [BaseDataElement(), BaseDataElement(loss=dict(loss_cls=torch.tensor(2.0)))], {}
    kept, losses = update_losses(predictions, losses)
    assert kept == predictions[:1]
    assert isinstance(losses['loss_cls'], HistoryBuffer)
    assert parse_losses(losses, 'val') == {'val_loss': 2.0, 'loss_cls': 2.0}


def test_hooks_of_a_copy_are_dropped():
    layer, called = nn.Linear(1, 1), []
    layer.register_forward_pre_hook(lambda *args: called.append('before'))
    layer.register_forward_hook(lambda *args: called.append('after'))
    layer(torch.zeros(1, 1))
    assert called == ['before', 'after']
    drop_hooks(layer)
    layer(torch.zeros(1, 1))
    assert len(called) == 2


def counts_of(wrapper: OptimWrapper) -> tuple[int, ...]:
    return wrapper._accumulative_counts, wrapper._inner_count, wrapper._max_counts, wrapper._remainder_counts


def test_the_passes_of_an_iteration_count_as_one():
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(nn.Identity(), 0, 3)
    values = []
    for iteration in range(3):
        with counted_once(wrapper, 4):
            for _ in range(4):
                wrapper.update_params(weight * 1.0)
                values.append(weight.item())
        assert counts_of(wrapper) == (2, iteration + 1, 3, 1)
    assert values == pytest.approx([1.0] * 7 + [0.0] * 4 + [-1.0]), 'the last step has one iteration only'


@pytest.mark.parametrize(('most', 'own', 'steps'), [(-1, 1, 4), (2, 1, 4), (2, 2, 2)])
def test_more_iterations_than_the_maximum_take_their_steps(most, own, steps):
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=own)
    wrapper.initialize_count_status(nn.Identity(), 0, most)
    for _ in range(4):
        with counted_once(wrapper, 2):
            wrapper.update_params(weight * 1.0)
            wrapper.update_params(weight * 1.0)
    assert weight.item() == pytest.approx(1.0 - steps)


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_counts_are_restored_after_an_interruption(error):
    weight = nn.Parameter(torch.ones(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(nn.Identity(), 1, 5)
    with pytest.raises(error), counted_once(wrapper, 4):
        wrapper.update_params(weight * 1.0)
        raise error
    assert counts_of(wrapper) == (2, 1, 5, 1)


def test_coco_metrics_hold_the_ground_truth_that_copies_share(tmp_path):
    path = tmp_path / 'val.json'
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    assert coco_ground_truth(CocoMetric(ann_file=str(path))).getImgIds() == []


def test_all_batch_norms_and_convolutions_have_one_base():
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, AnyBatchNorm)
    assert issubclass(nn.Conv2d, AnyConv) and issubclass(nn.ConvTranspose2d, AnyConv)
    names = [AnyBatchNorm.__name__, AnyConv.__name__]
    assert names == ['_BatchNorm', '_ConvNd']  # those that init_cfg of mmdet's configs names


def test_initialization_finds_layers_by_the_name_of_the_base():
    layer = nn.Sequential(nn.BatchNorm2d(2))
    initialize(layer, dict(type='Constant', val=3.0, layer=AnyBatchNorm.__name__))
    assert layer[0].weight.tolist() == [3.0, 3.0]


def test_the_batch_norm_of_all_processes_is_a_function():
    parameters = list(inspect.signature(sync_batch_norm.__self__.forward).parameters)
    assert parameters[1:] == 'input weight bias running_mean running_var eps momentum process_group world_size'.split()


def test_a_batch_norm_checks_the_dimensions_of_its_input():
    check_dimensions(nn.BatchNorm2d(1), torch.zeros(1, 1, 1, 1))
    with pytest.raises(ValueError, match='expected 4D input'):
        check_dimensions(nn.BatchNorm2d(1), torch.zeros(1, 1))


@pytest.mark.parametrize('padding', [2, (1, 3), 'same'])
def test_a_convolution_pads_before_it_convolves(padding):
    conv, x = nn.Conv2d(1, 1, 5, padding=padding, padding_mode='reflect'), torch.rand(1, 1, 8, 8)
    padded = F.pad(x, border_padding(conv), mode='reflect')
    torch.testing.assert_close(F.conv2d(padded, conv.weight, conv.bias), conv(x))


def test_a_transposed_convolution_reaches_a_size():
    conv = nn.ConvTranspose2d(1, 1, 3, stride=2)
    x = torch.zeros(1, 1, 4, 4)
    assert list(output_padding(conv, x, [10, 9])) == [1, 0] and list(output_padding(conv, x, None)) == [0, 0]
    with pytest.raises(ValueError, match='output size'):
        output_padding(conv, x, [20, 20])


def test_torch_and_numpy_name_their_functions_so_in_files():
    named = {pair for pair in TENSOR_BUILDERS if callable(getattr(import_module(pair[0]), pair[1], None))}
    assert named == TENSOR_BUILDERS
    assert torch.zeros(1).__reduce_ex__(2)[0].__name__ in {name for _, name in TENSOR_BUILDERS}
    assert np.zeros(1).__reduce__()[0].__module__ in ARRAY_MODULES


def test_the_operators_of_mmcv_are_a_library():
    assert operators_library().suffix in ('.so', '.pyd')


def test_a_voc_dataset_reads_its_files_by_these_methods():
    assert all(hasattr(XMLDataset, name) for name in VOC_METHODS)


def test_a_config_in_python_keeps_what_it_imports(tmp_path):
    (tmp_path / 'base.py').write_text('classes = 3')
    text = 'from mmengine.config import read_base\nfrom torch import nn\nwith read_base():\n    from .base import *'
    (tmp_path / 'config.py').write_text(text)
    assert {'nn', 'read_base'} <= set(imported_names(Config.fromfile(tmp_path / 'config.py')))
    assert not imported_names(Config(dict(classes=3)))


def test_the_error_for_a_name_that_is_no_packaged_config_is_known(tmp_path):
    (tmp_path / 'config.py').write_text("_base_ = 'a::b::c.py'")
    with pytest.raises(ValueError) as error:
        Config.fromfile(tmp_path / 'config.py')
    assert is_package_error(error.value) and not is_package_error(ValueError('another'))


@pytest.mark.parametrize('data_preprocessor', [DetDataPreprocessor, ImgDataPreprocessor])
def test_a_preprocessor_tells_what_it_does(data_preprocessor):
    stock = data_preprocessor(mean=[1.0] * 3, std=[2.0] * 3, bgr_to_rgb=True)
    assert converts_channels(stock) is True and normalizes(stock) is True
    assert stock.mean.flatten().tolist() == [1.0] * 3
    nothing = data_preprocessor()
    assert converts_channels(nothing) is False and normalizes(nothing) is False


def test_the_dictionaries_of_a_module_restore_it():
    module = nn.BatchNorm2d(2)
    state = module_state(module)
    module.register_buffer('added', torch.zeros(1))
    module.extra, module.weight, module.child = 1, None, nn.Identity()
    for part, copy in state:
        part.clear()
        part.update(copy)
    assert not {'added', 'extra', 'child'} & {*dir(module)} and module.weight is not None
    assert module_state(torch.jit.script(nn.Identity())) == []


@pytest.mark.parametrize(
    ('roi_head', 'arguments'),
    [
        (StandardRoIHead, {}),
        (DoubleHeadRoIHead, {}),
        (CascadeRoIHead, dict(stage=1)),
        (HybridTaskCascadeRoIHead, dict(stage=1, semantic_feat=None)),
    ],
)
def test_the_calls_of_a_box_head_are_collected_and_repeated(roi_head, arguments):
    class Echo(roi_head):
        def __init__(self):
            nn.Module.__init__(self)

        def _bbox_forward(self, **arguments):
            return dict(cls_score=arguments['rois'])

    Echo._bbox_forward.__signature__ = inspect.signature(roi_head._bbox_forward)
    head, rois = Echo(), torch.rand(2, 5)
    with watched_box_head(head) as calls:
        head._bbox_forward(**arguments, x=(), rois=rois)
    assert '_bbox_forward' not in vars(head)
    assert calls[0].arguments == dict(arguments, x=(), rois=rois)
    assert calls[0].again(2 * rois).results['cls_score'].equal(2 * rois) and len(calls) == 1
    assert 'self._bbox_forward(' in inspect.getsource(roi_head.bbox_loss)


def test_writes_to_a_tensor_are_counted_except_for_those_through_data():
    weight = nn.Parameter(torch.ones(2))
    before = write_count(weight)
    weight.data.add_(1)
    assert write_count(weight) == before
    with torch.inference_mode():
        weight.add_(1)
        with pytest.raises(RuntimeError):
            write_count(torch.ones(2))
    assert write_count(weight) == before + 1
    assert write_count(weight[:1]) == before + 1  # a view shares the count
