"""Detections on an image: colours of classes, places of labels, sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from mmmutual.evaluation.plotting import class_colors, draw_instances
from mmmutual.evaluation.plotting.drawn_instances import free_place

COLORS = [(200, 0, 0), (0, 0, 200)]


def instances(**fields) -> InstanceData:
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 10.0, 50.0, 40.0]])
    return InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]), **fields)


def drawn(found: InstanceData, **options) -> np.ndarray:
    return draw_instances(np.zeros((48, 64, 3), np.uint8), found, COLORS, **options)


def test_a_palette_of_the_data_set_is_used():
    assert class_colors(['a', 'b'], [(1, 2, 3), (4, 5, 6)]) == [(1, 2, 3), (4, 5, 6)]


@pytest.mark.parametrize(
    ('count', 'palette'), [(4, None), (4, [(0, 0, 0)]), (4, [(0, 0, 0)] * 80), (10, 'random'), (120, None)]
)
def test_without_one_each_class_has_a_colour_that_stays(count, palette):
    classes = [str(index) for index in range(count)]
    colors = class_colors(classes, palette)
    assert len(set(colors)) == count
    assert colors == class_colors(classes, palette)


def test_boxes_have_the_colours_of_their_classes():
    picture = drawn(instances(), labels=False)
    assert tuple(picture[4, 12]) == COLORS[0]
    assert tuple(picture[40, 40]) == COLORS[1]
    assert not picture[25, 25].any()


def test_boxes_scale_with_the_image():
    picture = drawn(instances(), labels=False, factor=3)
    assert picture.shape == (144, 192, 3)
    assert tuple(picture[12, 36]) == COLORS[0]
    assert drawn(instances(), factor=0.5).shape == (24, 32, 3)


def test_masks_of_each_kind_are_tinted():
    masks = np.zeros((2, 48, 64), np.uint8)
    masks[0, 8:16, 8:16] = 1
    pictures = [
        drawn(instances(masks=kind), labels=False)
        for kind in (BitmapMasks(masks, 48, 64), torch.from_numpy(masks).bool())
    ]
    assert np.array_equal(*pictures)
    assert tuple(pictures[0][12, 12]) == (80, 0, 0)
    assert not pictures[0][25, 40].any()


def test_boxes_of_mmdet_are_drawn_like_tensors():
    found = instances()
    found.bboxes = HorizontalBoxes(found.bboxes)
    assert np.array_equal(drawn(found), drawn(instances()))


def test_low_scores_are_left_out():
    picture = drawn(instances(scores=torch.tensor([0.2, 0.9])), labels=False)
    assert not picture[4, 12].any() and picture[40, 40].any()
    everything = drawn(instances(scores=torch.tensor([0.2, 0.9])), labels=False, score_thr=0.2)
    assert everything[4, 12].any()


def test_no_instance_leaves_the_image_as_it_is():
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    assert not drawn(nothing).any()


def test_labels_appear_unless_they_are_off():
    found = instances(scores=torch.tensor([0.8, 0.9]))
    with_labels, without = drawn(found, factor=5), drawn(found, factor=5, labels=False)
    named = drawn(found, classes=['circle', 'square'], factor=5)
    painted = [(picture != 0).any(-1).sum() for picture in (without, with_labels, named)]
    assert painted == sorted(set(painted))


boxes = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60))


@settings(max_examples=50, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=20), st.tuples(st.integers(1, 30), st.integers(1, 120)))
def test_labels_lie_within_the_image_and_never_on_each_other(found, size):
    taken = np.zeros((100, 100), dtype=bool)
    for left, top, width, height in found:
        place = free_place((left, top, left + width, top + height), size, taken)
        if place is None:
            continue
        x, y = place
        assert x >= 0 and y >= 0 and y + size[0] <= 100 and x + size[1] <= 100
        region = taken[y : y + size[0], x : x + size[1]]
        assert not region.any()
        region[:] = True


def test_the_first_label_stands_above_its_box():
    assert free_place((20, 30, 60, 80), (10, 25), np.zeros((100, 100), dtype=bool)) == (20, 20)
