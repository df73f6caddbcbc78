"""Optional packages that a config needs are checked before a model is built."""

import pytest
from mmengine.config import Config

from mmmutual.config import build_model, make_mutual
from mmmutual.config.required_packages import check_packages

RESNET = dict(type='ResNet', depth=18)


@pytest.fixture
def nothing_installed(monkeypatch, without_mmpretrain):
    monkeypatch.setattr('mmmutual.config.required_packages.find_spec', lambda name: None)


@pytest.mark.usefixtures('nothing_installed')
@pytest.mark.parametrize(
    ('model', 'sentence'),
    [
        (
            dict(backbone=dict(type='mmpretrain.ConvNeXt')),
            'ConvNeXt needs mmpretrain, which .*`make pretrain` installs',
        ),
        (dict(type='BaseReID', backbone=RESNET), 'BaseReID needs mmpretrain, which does not import here'),
        (
            dict(backbone=dict(type='TIMMBackbone')),
            'TIMMBackbone in the config needs timm, which is not installed: install timm, or choose another config',
        ),
        (dict(backbone=RESNET, language_model=dict(type='BertModel')), 'BertModel in the config needs transformers'),
    ],
)
def test_a_missing_package_is_named(model, sentence):
    config = Config(dict(model=dict(dict(type='RetinaNet'), **model)))
    for check in (build_model, make_mutual):
        with pytest.raises(ImportError, match=f'^{sentence}[^\n]*$'):
            check(config)


@pytest.mark.usefixtures('nothing_installed')
def test_a_config_that_needs_none():
    check_packages(dict(type='RetinaNet', backbone=RESNET))


def test_installed_packages_are_enough(monkeypatch):
    monkeypatch.setattr('mmmutual.config.required_packages.find_spec', lambda name: name)
    check_packages(dict(backbone=dict(type='TIMMBackbone')))


def test_mmpretrain_that_mmdet_did_not_find(monkeypatch):
    """mmdet looks for it when it is imported, before the separate folder of ``make pretrain`` is known."""
    monkeypatch.setattr('mmmutual.config.required_packages.find_mmpretrain', lambda user: None)
    monkeypatch.setattr('mmmutual.config.required_packages.BaseReID', object)
    with pytest.raises(
        ImportError, match='^BaseReID needs mmpretrain already when mmdet is imported, .*choose a config'
    ):
        check_packages(dict(type='BaseReID', backbone=RESNET))
