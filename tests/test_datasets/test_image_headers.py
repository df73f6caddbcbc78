"""Images that are loaded with another size, orientation or number of channels than the annotations or the model say."""

import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmmutual.datasets import check_data
from mmmutual.datasets.image_files import ImageLoading, check_headers
from tests.support import small_coco

STORED, UPRIGHT = (64, 48), (48, 64)  # the test photos are stored lying


def photo(path, orientation: int | None = 6, mode: str = 'RGB'):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new(mode, STORED).save(path, exif=exif)
    return path


def check(path, expected, color_type='color', backend='cv2', channels=None) -> list[str]:
    loading = ImageLoading(color_type, backend, channels)
    return list(check_headers([(path.name, str(path), expected)], 'all.json', loading))


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'webp'])
@pytest.mark.parametrize('color_type', ['color', 'grayscale', 'unchanged', 'color_ignore_orientation'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
def test_the_size_is_that_of_the_loaded_image(orientation, color_type, suffix, backend, tmp_path):
    import mmcv

    path = photo(tmp_path / f'a.{suffix}', orientation)
    height, width = mmcv.imread(path, flag=color_type, backend=backend).shape[:2]
    assert check(path, (width, height), color_type, backend) == []
    with pytest.raises(ValueError, match=r'1 of 1 inspected images .*a\.'):
        check(path, (height, width), color_type, backend)


def test_a_turned_photo_is_named_with_the_way_out(tmp_path):
    path = photo(tmp_path / 'a.jpg')
    with pytest.raises(
        ValueError, match=r'orientation tag .*turned upright, but all.json has their size as they are st'
    ):
        check(path, STORED)
    with pytest.raises(ValueError, match=r"example a.jpg. Set color_type='color_ignore_orientation' in each Load"):
        check(path, STORED)
    with pytest.raises(ValueError, match=r"are loaded as they are stored.*Set color_type='color' and imdecode_backend"):
        check(path, UPRIGHT, 'unchanged')
    check(path, STORED, None)
    check(path, UPRIGHT, None)  # other loaders may turn


@pytest.mark.parametrize(
    ('mode', 'color_type', 'channels'),
    [('L', 'unchanged', 1), ('RGBA', 'unchanged', 4), ('RGB', 'grayscale', 1), ('L', 'color', 3)],
)
def test_channels(mode, color_type, channels, tmp_path):
    path = photo(tmp_path / 'a.png', None, mode)
    check(path, STORED, color_type, channels=channels)
    check(path, STORED, color_type)
    check(path, STORED, None, channels=9)
    with pytest.raises(ValueError, match=rf'other channels than the 5 that the model expects .*a.png \({channels}\)'):
        check(path, STORED, color_type, channels=5)


@pytest.mark.parametrize('shape', [(48, 64), (48, 64, 3)], ids=['grey', 'colour'])
@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_16_bits_are_said(suffix, shape, tmp_path):
    path = tmp_path / f'a.{suffix}'
    cv2.imwrite(str(path), np.full(shape, 1000, np.uint16))
    (said,) = check(path, STORED)
    assert re.search(rf"1 of 1 inspected images have 16 bits a channel, for example a.{suffix}; 'color' keeps 8", said)
    (said,) = check(path, STORED, 'unchanged')
    assert "'unchanged' keeps the full range" in said
    cv2.imwrite(str(path), np.full(shape, 100, np.uint8))
    assert check(path, STORED) == []


def test_the_config_says_what_is_loaded(tmp_path, capsys):
    small_coco.write(tmp_path, lambda c: c['images'][0].update(file_name='a.jpg', width=48, height=64))
    photo(tmp_path / 'images' / 'a.jpg')
    grey = [dict(type='LoadImageFromFile', color_type='grayscale'), small_coco.LOAD[1]]
    models = {
        3: dict(backbone=dict(type='ResNet'), data_preprocessor=dict(mean=[1, 2, 3])),
        1: dict(backbone=dict(type='ResNet', in_channels=1), data_preprocessor=dict(mean=[1.0])),
        None: dict(backbone=dict(type='ResNet'), data_preprocessor=dict(mean=[1.0])),
    }
    for channels, model in models.items():
        for pipeline, loaded in ((small_coco.LOAD, 3), (grey, 1)):
            config = Config(dict(small_coco.training(tmp_path, pipeline=pipeline), model=model))
            if channels in (loaded, None):
                check_data(config)
            else:
                with pytest.raises(
                    ValueError, match=f'train_dataloader: .* channels than the {channels} that the model'
                ):
                    check_data(config)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_files_that_are_not_images(backend, tmp_path):
    """A server may send a page instead of an image; training would stop in the middle."""
    path = tmp_path / 'a.jpg'
    path.write_text('<html>not found</html>')
    with pytest.raises(ValueError, match='1 of 1 inspected images cannot be read, for example a.jpg. They are damaged'):
        check(path, STORED, backend=backend)
    assert check(path, STORED, None) == [], 'other loaders may read more'


def test_images_that_only_the_loader_reads_pass(tmp_path):
    path = tmp_path / 'a.hdr'
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.float32))
    with pytest.raises(OSError):
        Image.open(path)
    assert check(path, STORED) == []


def test_images_may_be_skipped_that_cannot_be_read(tmp_path):
    small_coco.write(tmp_path)
    (tmp_path / 'images' / '1.png').write_text('no image')
    load = [dict(type='LoadImageFromFile', ignore_empty=True), small_coco.LOAD[1]]
    check_data(small_coco.training(tmp_path, pipeline=load))
    assert 'example 1.png' in small_coco.refusal(small_coco.training(tmp_path, pipeline=small_coco.LOAD))
