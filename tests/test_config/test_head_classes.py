"""The number of classes of each head is compared with the data before a model is built."""

import pytest
from mmengine.config import Config

from mmmutual.config.head_classes import check_head_classes

FOUR = ('a', 'b', 'c', 'd')
ROI = dict(type='MaskRCNN', rpn_head=dict(type='RPNHead', num_classes=1))


def loader(classes=FOUR, kind='CocoDataset', **options) -> dict:
    metainfo = {} if classes is None else dict(metainfo=dict(classes=classes))
    return dict(dataset=dict(type=kind, ann_file='a.json', **metainfo, **options))


def config(model: dict, **loaders) -> Config:
    return Config(dict(model=model, train_dataloader=loader(), **loaders))


def head(number=None, kind: str = 'Shared2FCBBoxHead') -> dict:
    return dict(type=kind, num_classes=number) if number is not None else dict(type=kind)


GOOD = [
    dict(ROI, roi_head=dict(bbox_head=head(4), mask_head=head(4, 'FCNMaskHead'))),
    dict(ROI, roi_head=dict(bbox_head=[head(4), head(4)], semantic_head=head(183, 'FusedSemanticHead'))),
    dict(type='RetinaNet', bbox_head=head(4, 'RetinaHead'), backbone=dict(type='VGG', num_classes=7)),
    dict(type='Mask2Former', panoptic_head=dict(num_things_classes=4, num_stuff_classes=0)),
    dict(type='GroundingDINO', bbox_head=head(256, 'GroundingDINOHead'), language_model=dict(type='BertModel')),
    dict(type='RPN', rpn_head=dict(type='RPNHead')),
    dict(type='Own', decoder=dict(type='NotRegistered')),
]
WRONG = [
    (
        dict(ROI, roi_head=dict(bbox_head=head(2), mask_head=head(4, 'FCNMaskHead'))),
        'model.roi_head.bbox_head.num_classes=2',
    ),
    (
        dict(ROI, roi_head=dict(bbox_head=head(4), mask_head=head(5, 'FCNMaskHead'))),
        'model.roi_head.mask_head.num_classes=5',
    ),
    (dict(ROI, roi_head=dict(bbox_head=[head(4), head(3)])), 'model.roi_head.bbox_head[1].num_classes=3'),
    (dict(ROI, roi_head=dict(bbox_head=head())), 'model.roi_head.bbox_head.num_classes (default)=80'),
    (dict(ROI, roi_head=dict(mask_head=head(kind='FCNMaskHead'))), 'model.roi_head.mask_head.num_classes (default)=80'),
    (dict(type='RetinaNet', bbox_head=head(80, 'RetinaHead')), 'model.bbox_head.num_classes=80'),
    (dict(type='Semi', detector=dict(bbox_head=head(3, 'RetinaHead'))), 'model.detector.bbox_head.num_classes=3'),
    (
        dict(type='Mask2Former', panoptic_head=dict(num_things_classes=80, num_stuff_classes=53)),
        'model.panoptic_head.num_things_classes + num_stuff_classes=133',
    ),
]


@pytest.mark.parametrize('model', GOOD, ids=str)
def test_equal_numbers_and_other_kinds_of_classes_pass(model):
    check_head_classes(config(model), ('train', 'val'))
    check_head_classes(dict(config(model)), ('train', 'val'))


@pytest.mark.parametrize(('model', 'setting'), WRONG, ids=str)
def test_another_number_is_named_with_that_of_the_data(model, setting):
    with pytest.raises(ValueError) as caught:
        check_head_classes(config(model), ('train', 'val'))
    assert str(caught.value) == (
        f'{setting}, but the data set of train_dataloader has 4 classes (a, b, c, d). Set num_classes=4 in each of these '
        'heads'
    )


def test_all_wrong_heads_are_named_and_wrappers_followed():
    wrapped = dict(dataset=dict(type='RepeatDataset', times=2, dataset=loader(('a', 'b'))['dataset']))
    settings = Config(dict(model=dict(roi_head=dict(bbox_head=head(4), mask_head=head(9))), test_dataloader=wrapped))
    with pytest.raises(
        ValueError, match='bbox_head.num_classes=4, model.roi_head.mask_head.num_classes=9, but .* has 2 cl'
    ):
        check_head_classes(settings, ('test',))
    check_head_classes(settings, ('train', 'val'))


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_the_classes_of_the_type(kind):
    number = dict(CocoDataset=80, VOCDataset=20)[kind]
    settings = config(dict(bbox_head=head(number)))
    settings.train_dataloader = loader(None, kind)
    check_head_classes(settings, ('train',))
    settings.model.bbox_head.num_classes = 7
    with pytest.raises(ValueError, match=rf'has {number} classes \(\w+, .*, \.\.\.\)'):
        check_head_classes(settings, ('train',))


def test_classes_of_train_and_val_differ():
    settings = config(dict(bbox_head=head(4)), val_dataloader=loader(('b', 'a', 'c', 'd')))
    with pytest.raises(
        ValueError, match=r"val_dataloader has the classes \['b', 'a'.*, but train_dataloader has \['a', 'b'"
    ):
        check_head_classes(settings, ('train', 'val'))
    check_head_classes(settings, ('train',))


def test_classes_of_open_vocabularies_may_differ():
    settings = config(GOOD[4], val_dataloader=loader(('x', 'y')))
    check_head_classes(settings, ('train', 'val'))


def test_a_text_instead_of_a_list():
    settings = config(dict(bbox_head=head(4)))
    settings.train_dataloader = loader('a')
    with pytest.raises(ValueError, match=r"train_dataloader: metainfo.classes is the text 'a'"):
        check_head_classes(settings, ('train',))


@pytest.mark.parametrize('kind', ['CocoPanopticDataset', 'ImageNet', 'NotRegistered', 'absent_package.Dataset'])
def test_other_data_sets_are_left_alone(kind):
    settings = config(dict(head=head(1000, 'LinearClsHead')))
    settings.train_dataloader = loader(FOUR, kind)
    check_head_classes(settings, ('train',))
    check_head_classes(Config(dict(settings, model=None)), ('train', 'val'))
