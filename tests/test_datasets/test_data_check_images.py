"""The images of a data set: missing, empty, damaged, or of another size than their annotations say."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config

from mmmutual.datasets import check_data
from tests.support.coco_folder import coco, draw, loading, refusal


@pytest.fixture
def data(tmp_path) -> Path:
    return draw(tmp_path / 'data')


class TestImages:
    def test_missing(self, data):
        (data / 'images' / 'sub' / 'b.jpg').unlink()
        assert refusal(loading(coco(data))) == (
            f'train_dataloader: 1 of the 3 images that {data}/images.json names are not in {data}/images/, for example '
            f'sub/b.jpg. Put them there, or set data_prefix.'
        )

    def test_flat_is_not_nested(self, data):
        """A file in another folder of the same name is not the one that is named."""
        draw(data, ['b.jpg', 'a.jpg', 'sub/a.jpg'], present=())
        assert '2 of the 3 images' in (message := refusal(loading(coco(data))))
        assert 'for example b.jpg, sub/a.jpg.' in message

    def test_examples_are_few(self, tmp_path):
        draw(tmp_path, [f'{index}.jpg' for index in range(9)], present=['0.jpg'])
        message = refusal(loading(coco(tmp_path)))
        assert '8 of the 9 images' in message
        assert 'for example 1.jpg, 2.jpg, 3.jpg.' in message

    def test_folder_missing(self, data):
        message = refusal(loading(coco(data, data_prefix=dict(img='pictures/'))))
        assert f'3 of the 3 images that {data}/images.json names are not in {data}/pictures/,' in message


def test_empty_images_are_named(data):
    (data / 'images' / 'sub' / 'b.jpg').write_bytes(b'')
    message = refusal(loading(coco(data)), ValueError)
    assert f'1 of the 3 images that {data}/images.json names are empty files, for example sub/b.jpg.' in message


class TestImageSizes:
    @staticmethod
    def drawn(root: Path, number: int, wrong: int | None = None, shape=(9, 9, 3)) -> Config:
        data = draw(root, [f'{index}.png' for index in range(number)])
        for index in range(number):
            size = shape if index == wrong else (9, 9, 3)
            cv2.imwrite(str(data / 'images' / f'{index}.png'), np.zeros(size, np.uint8))
        return loading(coco(data))

    def test_another_size_is_named(self, tmp_path):
        message = refusal(self.drawn(tmp_path, 3, wrong=2, shape=(12, 10, 3)), ValueError)
        assert re.search(r'1 of 3 inspected images have another size than .*images.json states', message)
        assert '2.png (is 10 x 12, not 9 x 9)' in message
        assert 'Use the images that belong to the file, or scale its annotations' in message

    def test_of_many_images_evenly_spread_ones_are_looked_at(self, tmp_path, monkeypatch):
        monkeypatch.setattr('mmmutual.datasets.image_files.MAX_OPENED', 3)
        config = self.drawn(tmp_path, 7, wrong=6, shape=(8, 9, 3))  # of 0 to 6, these are 0, 3 and 6
        assert '1 of 3 inspected images' in refusal(config, ValueError)

    def test_turned_and_unreadable_images_pass(self, tmp_path):
        config = self.drawn(tmp_path, 2)
        content = json.loads((tmp_path / 'images.json').read_text())
        content['images'][0].update(width=5, height=7)
        (tmp_path / 'images.json').write_text(json.dumps(content))
        cv2.imwrite(str(tmp_path / 'images' / '0.png'), np.zeros((5, 7, 3), np.uint8))
        (tmp_path / 'images' / '1.png').write_bytes(b'image')
        check_data(config)


def test_100_damaged_images(tmp_path):
    """Cut short, overwritten or of another kind: mmdet stops with the file's name, or reads an image of the same size."""
    rng, image = random.Random(0), np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype('uint8')
    load, outcomes = LoadImageFromFile(), Counter()
    for number in range(100):
        path = tmp_path / f'{number}.{rng.choice(["jpg", "png"])}'
        cv2.imwrite(str(path), image)
        whole = bytearray(path.read_bytes())
        kind = ('cut', 'bytes', 'zeros', 'text')[number % 4]
        start = rng.randrange(1, len(whole))
        if kind == 'cut':
            del whole[start:]
        elif kind == 'bytes':
            whole[start] = rng.randrange(256)
        elif kind == 'zeros':
            whole[start:] = bytes(len(whole) - start)
        else:
            whole[:] = b'<html>not found</html>'
        path.write_bytes(whole)
        try:
            loaded = load(dict(img_path=str(path)))
        except AssertionError as error:
            assert str(error) == f'failed to load image: {path}'
            outcomes['refused'] += 1
        else:
            assert loaded['img'].shape == image.shape
            outcomes[f'read, {kind}'] += 1
    print(dict(outcomes))
    assert outcomes['refused'] > 50
    assert not outcomes['read, text']
