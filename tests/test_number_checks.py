"""Checks of whole and positive numbers."""

import math

import numpy as np
import pytest

from mmmutual.number_checks import check_positive, check_whole, is_number, is_whole


@pytest.mark.parametrize(
    ('value', 'whole'), [(3, True), (np.int64(3), True), (0, True), (True, False), (3.0, False), ('3', False)]
)
def test_whole_numbers(value, whole):
    assert is_whole(value) is whole


def test_the_least_whole_number():
    assert is_whole(2, 2) and not is_whole(1, 2)


@pytest.mark.parametrize(
    ('value', 'number'), [(3, True), (-0.5, True), (True, False), (math.inf, False), (math.nan, False), ('3', False)]
)
def test_numbers(value, number):
    assert is_number(value) is number


def test_a_whole_number_is_returned():
    assert check_whole(5, 'window', 5) == 5 and type(check_whole(np.int64(7), 'window', 5)) is int


@pytest.mark.parametrize(
    ('value', 'error', 'text'),
    [
        (2.0, TypeError, 'window must be a whole number, but got 2.0'),
        (True, TypeError, 'window must be a whole number, but got True'),
        (4, ValueError, 'window must be at least 5 frames, but got 4'),
    ],
)
def test_other_numbers_are_refused(value, error, text):
    with pytest.raises(error, match=text):
        check_whole(value, 'window', 5, 'frames')


def test_positive_numbers():
    assert check_positive(3, 'budget') == 3.0 and check_positive(math.inf, 'budget') == math.inf


@pytest.mark.parametrize(
    ('value', 'error'), [('1', TypeError), (True, TypeError), (0, ValueError), (math.nan, ValueError)]
)
def test_what_is_not_positive_is_refused(value, error):
    with pytest.raises(error, match=f'budget must be a number of milliseconds above 0, but got {value!r}'):
        check_positive(value, 'budget', 'milliseconds')


def test_infinity_can_be_refused():
    with pytest.raises(ValueError, match='budget must be a number above 0, but got inf'):
        check_positive(math.inf, 'budget', finite=True)
