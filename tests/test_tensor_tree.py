"""The walk over nested tensors."""

import torch

from mmmutual.tensor_tree import named_tensors, tensors_in

ONE, TWO, THREE = (torch.full((1,), float(number)) for number in (1, 2, 3))
NESTED = ([ONE, (TWO, None)], dict(boxes=THREE, name='left out'))


def test_tensors_come_in_order_with_their_places():
    found = dict(named_tensors(NESTED, 'head'))
    assert list(found) == ['head_0_0', 'head_0_1_0', 'head_1_boxes']
    assert [value.item() for value in found.values()] == [1, 2, 3]


def test_a_tensor_is_its_own_tree():
    assert [value is ONE for value in tensors_in(ONE)] == [True] and not list(tensors_in('text'))
