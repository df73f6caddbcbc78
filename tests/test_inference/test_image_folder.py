"""Folders of images as cameras and people name them."""

import pytest

from mmmutual.inference import find_images


def test_capital_letters_count(tmp_path):
    for name in ('IMG_0002.JPG', 'b.png', 'a.Jpeg', '._b.png', 'notes.txt', '.hidden.png'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.jpg').mkdir()
    assert [path.name for path in find_images(tmp_path)] == ['IMG_0002.JPG', 'a.Jpeg', 'b.png']
    assert [path.name for path in find_images(tmp_path, ('.txt',))] == ['notes.txt']


def test_a_folder_without_any_is_named(tmp_path):
    with pytest.raises(ValueError, match=f'the folder {tmp_path} has no file that ends in one of .jpg'):
        find_images(tmp_path)
