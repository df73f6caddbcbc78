"""A pytest plugin that makes mmpretrain importable before the tests are."""

from mmmutual.environment import find_mmpretrain

find_mmpretrain()
