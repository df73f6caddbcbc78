"""A checkpoint of other classes loads if their number is the same: both lists are named in a warning."""

import logging

import pytest
from mmengine.config import Config

import mmmutual.checkpoint.classes as module
from mmmutual.checkpoint import check_classes, warn_of_other_classes

CONFIG = Config(
    dict(
        test_dataloader=dict(dataset=dict(type='CocoDataset', ann_file='a.json', metainfo=dict(classes=('cat', 'dog'))))
    )
)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The warnings."""
    lines = []

    def note(message, logger, level):
        assert (logger, level) == ('current', logging.WARNING)
        lines.append(message)

    monkeypatch.setattr(module, 'print_log', note)
    return lines


def test_another_order(said):
    warn_of_other_classes(CONFIG, dict(meta=dict(dataset_meta=dict(classes=['dog', 'cat']))), 'a.pth')
    assert said == [
        "the checkpoint a.pth was trained with the classes ['dog', 'cat'], but the test data set of the config has "
        "['cat', 'dog'] (label 0 is 'dog' and 'cat'): a detection counts as the config's class of its label"
    ]


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(CLASSES=('cat', 'mouse'))), dict(CLASSES=('cat', 'mouse')), dict(dataset_meta={}, classes=['cat', 'mouse'])
], ids=str)  # fmt: skip
def test_all_spellings_of_the_meta_data(meta, said):
    warn_of_other_classes(CONFIG, dict(meta=meta), 'a.pth', 'beware')
    assert "label 1 is 'mouse' and 'dog'): beware" in said[0]


def test_more_classes_than_the_data_set(said):
    warn_of_other_classes(CONFIG, dict(meta=dict(CLASSES=('cat', 'dog', 'cow'))), 'a.pth')
    assert "['cat', 'dog', 'cow'], but the test data set of the config has ['cat', 'dog']: a" in said[0]


@pytest.mark.parametrize('checkpoint', [
    dict(meta=dict(dataset_meta=dict(classes=['cat', 'dog']))), dict(meta=dict(CLASSES=('cat', 'dog'))), dict(meta={}), {},
    dict(meta=dict(dataset_meta=dict(classes=None))), dict(meta=dict(dataset_meta=None)), dict(meta=dict(CLASSES='cat')),
], ids=str)  # fmt: skip
def test_the_same_or_unknown_classes(checkpoint, said):
    warn_of_other_classes(CONFIG, checkpoint, 'a.pth')
    assert not said


@pytest.mark.parametrize('loader', [{}, dict(dataset=dict(type='ImageNet', ann_file='a.txt'))], ids=str)
def test_data_without_known_classes(loader, said):
    warn_of_other_classes(dict(test_dataloader=loader), dict(meta=dict(CLASSES=('cow',))), 'a.pth')
    assert not said


def test_a_training_that_has_to_keep_the_classes():
    config = Config(dict(train_dataloader=CONFIG.test_dataloader))
    check_classes(config, dict(meta=dict(CLASSES=('cat', 'dog'))), 'a.pth')
    check_classes(config, {}, 'a.pth')
    with pytest.raises(
        ValueError,
        match=r"^the checkpoint a.pth was trained with the classes \['dog', 'cat'\], but the train data set of the config "
        r"has \['cat', 'dog'\] \(label 0 is 'dog' and 'cat'\)\. Pass the config and the data of the checkpoint; "
        r'docs/transfer.md trains other classes$',
    ):
        check_classes(config, dict(meta=dict(CLASSES=('dog', 'cat'))), 'a.pth')
