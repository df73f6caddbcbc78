"""Private names of other packages are used in mmmutual/upstream.py only, or override a method in its class."""

import inspect

import pytest
from mmdet.apis import DetInferencer
from mmengine.hooks import CheckpointHook
from torch import nn

import mmmutual
from mmmutual.engine import AtomicCheckpointHook
from mmmutual.inference import AdaptiveInferencer
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d, SwitchableBatchNorm2d
from tests.support.private_names import FOLDERS, overridden, private_names

# A method can be overridden in its class only; why, is said there.
OVERRIDES = [
    ('_load_from_state_dict', SlimBatchNorm2d, nn.BatchNorm2d),
    ('_load_from_state_dict', SwitchableBatchNorm2d, nn.BatchNorm2d),
    ('_conv_forward', SlimConv2d, nn.Conv2d),
    ('_save_checkpoint_with_step', AtomicCheckpointHook, CheckpointHook),
    ('_save_best_checkpoint', AtomicCheckpointHook, CheckpointHook),
    ('_init_model', AdaptiveInferencer, DetInferencer),
    ('_load_weights_to_model', AdaptiveInferencer, DetInferencer),
    ('_init_pipeline', AdaptiveInferencer, DetInferencer),
    ('_inputs_to_list', AdaptiveInferencer, DetInferencer),
]


def test_no_other_module_uses_private_names_of_other_packages(root):
    uses = private_names(root, FOLDERS, overridden(mmmutual))
    names = {name for name, _, _ in OVERRIDES}
    assert [use for use in uses if use.path != 'mmmutual/upstream.py' and use.name not in names] == []
    assert sum(use.path == 'mmmutual/upstream.py' for use in uses) > 20


def test_the_overridden_methods_are_known():
    found = {(name, kind) for name, kinds in overridden(mmmutual).items() for kind in kinds}
    assert found == {(name, kind.__name__) for name, kind, _ in OVERRIDES}


@pytest.mark.parametrize(('name', 'kind', 'stock'), OVERRIDES)
def test_an_overridden_method_accepts_the_arguments_of_the_stock_one(name, kind, stock):
    method, replaced = (inspect.signature(getattr(cls, name)) for cls in (kind, stock))
    method.bind(*replaced.parameters)  # by position, as the packages call it
    assert callable(getattr(stock, name))


@pytest.mark.parametrize(
    'statement',
    [
        'from torch.nn.modules.conv import _ConvNd',
        'import torch._dynamo',
        'torch._C',
        "getattr(layer, '_buffers')",
        "vars(layer)['_buffers']",
        """f'{getattr(layer, "_buffers")}'""",
        'torch.save(model, path, _use_new_zipfile_serialization=False)',
    ],
)
def test_a_private_name_is_found(tmp_path, statement):
    (tmp_path / 'module.py').write_text(statement)
    assert len(private_names(tmp_path, ['.'])) == 1


@pytest.mark.parametrize(
    'statement',
    [
        'def _own(): ...\n_own()',
        'self._own = 1\nother._own',
        "dict(_base_='config.py', _delete_=True)",
        "name.endswith('_head')",
        "f'{name}_head'",
        'model.__class__',
        'pair._replace(first=1)',
    ],
)
def test_other_names_are_not(tmp_path, statement):
    (tmp_path / 'module.py').write_text(statement)
    assert private_names(tmp_path, ['.']) == []
