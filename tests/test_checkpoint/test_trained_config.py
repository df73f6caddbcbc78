"""A mutual checkpoint under a stock config is noticed, and the right config named."""

import copy
from importlib import import_module

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmutual import make_slimmable_
from mmmutual.checkpoint import check_mutual, check_resumed_scope, is_mutual, narrow_widths


class Detector(nn.Module):
    def __init__(self, norm: type = nn.BatchNorm2d):
        super().__init__()
        first, last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.backbone = nn.Sequential(first, norm(16) if norm is nn.BatchNorm2d else norm(2, 16), last)

    def forward(self, images, *_, **__):
        return self.backbone(images)


def mutual(norm: type = nn.BatchNorm2d, **meta) -> tuple[nn.Module, dict]:
    model = Detector(norm)
    make_slimmable_(model, (1.0, 0.5, 0.25))
    return model, dict(state_dict=model.state_dict(), meta=meta)


def test_under_its_own_config():
    model, checkpoint = mutual()
    assert narrow_widths(checkpoint) == [0.5, 0.25]
    check_mutual(model, checkpoint, 'a.pth')


def test_a_mutual_checkpoint_is_recognised_without_batch_norms_too():
    assert is_mutual(mutual()[1])
    assert is_mutual(mutual(nn.GroupNorm, cfg="custom_hooks = [dict(type='MutualLearningHook')]")[1])
    assert not is_mutual(dict(state_dict=Detector().state_dict(), meta=dict(cfg='model = dict()')))


def test_a_stock_checkpoint_goes_with_both():
    stock = dict(state_dict=Detector().state_dict())
    check_mutual(Detector(), stock, 'a.pth')
    check_mutual(mutual()[0], stock, 'a.pth')


def test_the_config_beside_it_is_named(tmp_path):
    (tmp_path / 'other.py').write_text('a = 1')
    (tmp_path / 'mine.py').write_text("custom_hooks = [dict(type='MutualLearningHook')]")
    torch.save(mutual()[1], tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=(
        rf'{tmp_path}/epoch_1.pth was trained mutually, with the widths 1, 0.5, 0.25, but mmdet::x/y.py is a stock config,'
        rf' which only has width 1.0. Use the config that the training wrote next to it: {tmp_path}/mine.py$'
    )):  # fmt: skip
        check_mutual(Detector(), mutual()[1], tmp_path / 'epoch_1.pth', 'mmdet::x/y.py')


def test_without_a_config_beside_it_the_way_to_make_one_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'--mutual .*make_mutual_config.py mmdet::x/y.py -o'):
        check_mutual(Detector(), mutual()[1], tmp_path / 'epoch_1.pth', 'mmdet::x/y.py')


def test_without_batch_norms_the_hook_in_its_config_tells():
    _, checkpoint = mutual(nn.GroupNorm, cfg="custom_hooks = [dict(type='MutualLearningHook')]")
    assert narrow_widths(checkpoint) == []
    with pytest.raises(ValueError, match='was trained mutually, but the config is a stock config'):
        check_mutual(Detector(nn.GroupNorm), checkpoint, 'a.pth')
    check_mutual(Detector(nn.GroupNorm), mutual(nn.GroupNorm, cfg='a = 1')[1], 'a.pth')


@pytest.mark.parametrize(('scope', 'name'), [('backbone', 'scope'), ('detector', 'scope'), ('detector', 'slim')])
def test_a_run_is_resumed_with_its_scope(scope, name):
    configs = dict(
        backbone=dict(model=dict(backbone=dict(type='SlimmableResNet'))),
        detector=dict(model=dict(type='SlimmableDetector', scope='detector')),
    )
    started = {**configs, 'detector': dict(model={'type': 'SlimmableDetector', name: 'detector'})}
    hooks = dict(custom_hooks=[dict(type='MutualLearningHook')])
    checkpoint = dict(meta=dict(cfg=Config({**started[scope], **hooks}).pretty_text))
    other = ({*configs} - {scope}).pop()
    check_resumed_scope(Config(configs[scope]), checkpoint, 'a.pth')
    check_resumed_scope(Config(started[scope]), checkpoint, 'a.pth')
    with pytest.raises(
        ValueError, match=f"wrote a.pth has the scope '{scope}', but .* '{other}': .* --mutual {scope},"
    ):
        check_resumed_scope(Config(configs[other]), checkpoint, 'a.pth')


def test_both_spellings_are_one_model(root):
    """A run with the slimmable classes continues with ``SlimmableDetector``, as --mutual writes it."""
    classes = Config.fromfile(root / 'tests' / 'data' / 'retinanet.py')
    classes.model.backbone = dict(type='SlimmableResNet', depth=18, base_channels=32, widths=(1.0, 0.5))
    wrapper = copy.deepcopy(classes)
    wrapper.model.update(type='SlimmableDetector', detector='RetinaNet', widths=(1.0, 0.5))
    wrapper.model.backbone = dict(type='ResNet', depth=18, base_channels=32)
    wrapper.model.neck.type = 'FPN'
    before, after = MODELS.build(classes.model), MODELS.build(wrapper.model)
    assert [name for name, _ in before.named_parameters()] == [name for name, _ in after.named_parameters()]
    classes.custom_hooks = [dict(type='MutualLearningHook')]
    checkpoint = dict(state_dict=before.state_dict(), meta=dict(cfg=classes.pretty_text))
    check_mutual(after, checkpoint, 'a.pth')
    check_resumed_scope(wrapper, checkpoint, 'a.pth')
    assert str(after.load_state_dict(before.state_dict())) == '<All keys matched successfully>'


@pytest.mark.parametrize('module', ['mmmutual.checkpoint', 'mmmutual.apis'])
def test_the_former_name_of_the_check_warns(module):
    with pytest.warns(DeprecationWarning, match='use mmmutual.checkpoint.check_resumed_scope$'):
        assert import_module(module).check_scope is check_resumed_scope


def test_other_checkpoints_say_nothing_of_a_scope():
    config = Config(dict(model=dict(type='SlimmableDetector', scope='detector')))
    for meta in ({}, dict(meta=None), dict(meta=dict(cfg="model = dict(type='MaskRCNN')"))):
        check_resumed_scope(config, meta, 'a.pth')
