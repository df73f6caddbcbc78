"""Missing or damaged data is reported before a model is built."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmmutual.datasets import check_data, draw_shapes

NAMES = ('a.jpg', 'sub/b.jpg', 'sub/deep/c.jpg')


def draw(root: Path, names=NAMES, present=None) -> Path:
    """Write an annotation file that names images, and some of them."""
    for name in names if present is None else present:
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'image')
    (root / 'images').mkdir(parents=True, exist_ok=True)
    images = [dict(id=index, file_name=name, height=9, width=9) for index, name in enumerate(names)]
    categories = [dict(id=index, name=name) for index, name in enumerate(CocoDataset.METAINFO['classes'])]
    content = dict(images=images, categories=categories, annotations=[])
    (root / 'images.json').write_text(json.dumps(content))
    return root


def coco(root, **options) -> dict:
    defaults = dict(type='CocoDataset', data_root=f'{root}/', ann_file='images.json', data_prefix=dict(img='images/'))
    return {**defaults, **options}


def loading(dataset: dict, split: str = 'train', **options) -> Config:
    return Config({f'{split}_dataloader': dict(batch_size=2, dataset=dataset), **options})


def refusal(config, error=FileNotFoundError, **options) -> str:
    with pytest.raises(error) as caught:
        check_data(config, **options)
    assert caught.type is error  # no JSONDecodeError, say
    return str(caught.value)


@pytest.fixture
def data(tmp_path) -> Path:
    return draw(tmp_path / 'data')


class TestGoodData:
    def test_passes(self, data):
        assert check_data(loading(coco(data))) is None

    def test_drawn_shapes_with_their_config_pass(self, tmp_path, root, monkeypatch):
        monkeypatch.chdir(tmp_path)
        draw_shapes('data/shapes', num_train=1, num_val=1, image_size=64, progress=False)
        check_data(Config.fromfile(root / 'configs' / 'mutual_mask_rcnn_r18_shapes.py'))

    @pytest.mark.parametrize(
        'options',
        [
            dict(),
            dict(data_root='data'),
            dict(data_root='', ann_file='data/images.json', data_prefix=dict(img='data/images')),
            dict(data_root=None, ann_file='data/images.json', data_prefix=dict(img='data/images')),
        ],
    )
    def test_relative_paths(self, data, monkeypatch, options):
        monkeypatch.chdir(data.parent)
        check_data(loading(coco('data', **options)))

    def test_absolute_paths_ignore_the_root(self, data):
        paths = dict(ann_file=f'{data}/images.json', data_prefix=dict(img=f'{data}/images'))
        check_data(loading(coco('/elsewhere', **paths)))

    def test_without_root_and_prefix_names_are_relative_to_the_working_directory(self, data, monkeypatch):
        draw(data, ['a.jpg', 'sub/b.jpg'])
        monkeypatch.chdir(data / 'images')
        config = loading(coco('', data_root='', ann_file='../images.json', data_prefix=dict(img='')))
        check_data(config)
        (data / 'images' / 'a.jpg').unlink()
        assert 'are not in ., for example a.jpg.' in refusal(config)

    @pytest.mark.parametrize('name', ['./a.jpg', 'sub//b.jpg', '../other/d.jpg', '{data}/a.jpg', 'link/b.jpg'])
    def test_names_that_need_a_path(self, data, tmp_path, name):
        """Also what a walk through the folder would not find."""
        draw(data, [name.format(data=data / 'images')], present=())
        (data / 'other').mkdir()
        (data / 'other' / 'd.jpg').write_bytes(b'image')
        (data / 'images' / 'link').symlink_to(data / 'images' / 'sub')
        check_data(loading(coco(data)))

    def test_same_data_is_read_once(self, data, monkeypatch):
        calls, load = [], json.load
        monkeypatch.setattr(json, 'load', lambda file: calls.append(file) or load(file))
        check_data({f'{split}_dataloader': dict(dataset=coco(data)) for split in ('train', 'val', 'test')})
        assert len(calls) == 1


class TestAnnotationFile:
    @pytest.mark.parametrize('make', [lambda path: None, Path.mkdir], ids=['missing', 'folder'])
    def test_that_is_no_file(self, data, make):
        (data / 'images.json').unlink()
        make(data / 'images.json')
        assert refusal(loading(coco(data))) == (
            f'train_dataloader: there is no annotation file {data}/images.json. Put it there, or set data_root and '
            f'ann_file.'
        )

    @pytest.mark.parametrize(
        'content',
        [
            b'annotations',
            b'',
            b'{"images": [{"file_na',
            b'\x89PNG\r\n\x1a\n\xff\x00',
            b'\xff\xfe\x00\xd8\x00',
        ],
        ids=['text', 'empty', 'truncated', 'binary', 'utf16'],
    )
    def test_that_is_not_json(self, data, content):
        (data / 'images.json').write_bytes(content)
        message = refusal(loading(coco(data), data_help='Fetch it.'), ValueError)
        assert re.fullmatch(
            rf'train_dataloader: the annotation file {data}/images.json is not JSON \(.+\). It may be cut short or in '
            r'another encoding than UTF-8: fetch or export it again.\nFetch it.',
            message,
        )

    @pytest.mark.parametrize(
        'content',
        [
            [],
            {},
            None,
            'images',
            {'annotations': []},
            {'images': None},
            {'images': 3},
            {'images': ['a.jpg']},
            {'images': {'file_name': 'a.jpg'}},
            {'images': [{'file_name': 'a.jpg'}, {'id': 2}]},
            {'images': [{'file_name': 5}]},
            {'images': [{'file_name': None}]},
        ],
        ids=str,
    )
    def test_of_another_form(self, data, content):
        (data / 'images.json').write_text(json.dumps(content))
        assert refusal(loading(coco(data), data_help='Fetch it.'), ValueError) == (
            f'train_dataloader: the annotation file {data}/images.json is not in COCO format: it needs a list '
            f"'images', each with a 'file_name'. Set ann_file to one that is.\nFetch it."
        )

    def test_without_images(self, data):
        assert refusal(loading(coco(draw(data, [])), data_help='Fetch it.'), ValueError) == (
            f'train_dataloader: the annotation file {data}/images.json names no images. Set ann_file to one that does.'
            f'\nFetch it.'
        )

    @pytest.mark.parametrize('kind', ['CocoDataset', 'mmdet.CocoDataset', CocoDataset], ids=str)
    def test_of_a_coco_data_set_is_read(self, data, kind):
        (data / 'images.json').write_text('{}')
        refusal(dict(train_dataloader=dict(dataset=coco(data, type=kind))), ValueError)

    @pytest.mark.parametrize('kind', ['LVISV1Dataset', 'CocoPanopticDataset', 'MyCocoDataset'])
    def test_of_another_data_set_needs_only_be_there(self, data, kind):
        """LVIS names no files, for instance."""
        (data / 'images.json').write_text('{}')
        check_data(loading(coco(data, type=kind)))
        (data / 'images.json').unlink()
        assert 'no annotation file' in refusal(loading(coco(data, type=kind)))


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


class TestConfig:
    def test_help_ends_the_message(self, data, tmp_path):
        text = '\nFetch it:  make data\n  or link it\n'
        (data / 'images' / 'a.jpg').unlink()
        for dataset in (coco(data), coco(tmp_path / 'elsewhere')):
            bare, helped = refusal(loading(dataset)), refusal(loading(dataset, data_help=text))
            assert helped == f'{bare}\nFetch it:  make data\n  or link it'

    @pytest.mark.parametrize(
        'wrap',
        [
            lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
            lambda dataset: dict(type='ConcatDataset', datasets=[dict(type='Custom'), dataset]),
            lambda dataset: dict(
                type='MultiImageMixDataset',
                pipeline=[dict(type='Mosaic', ann_file='no data set')],
                dataset=dict(type='ConcatDataset', datasets=(dataset,)),
            ),
        ],
    )
    def test_wrapped(self, data, wrap):
        check_data(loading(wrap(coco(data))))
        assert f'{data}/other.json' in refusal(loading(wrap(coco(data, ann_file='other.json'))))

    def test_second_data_set_is_checked(self, data):
        dataset = dict(type='ConcatDataset', datasets=[coco(data), coco(data, data_prefix=dict(img='pictures'))])
        assert f'{data}/pictures' in refusal(loading(dataset))

    def test_the_folder_of_imagenet(self, tmp_path):
        dataset = dict(type='ImageNet', data_root=f'{tmp_path}/', split='train')
        message = (
            f'train_dataloader: there is no folder {tmp_path}/train. Put the images there, or set data_root.\nhelp'
        )
        assert refusal(loading(wrapped := dict(dataset=dataset), data_help='help')) == message
        for change in (dict(data_root='s3://bucket/'), dict(data_prefix='elsewhere'), dict(type='DigitsDataset')):
            check_data(loading(dataset | change))
        (tmp_path / 'train').mkdir()
        check_data(loading(wrapped))

    @pytest.mark.parametrize('split', ['train', 'val', 'test'])
    def test_splits(self, split, tmp_path):
        config = loading(coco(tmp_path), split)
        assert refusal(config).startswith(f'{split}_dataloader: ')
        assert refusal(config, splits=(split,))
        check_data(config, splits=tuple({'train', 'val', 'test'} - {split}))

    @pytest.mark.parametrize(
        'options',
        [
            dict(data_root='s3://bucket/'),
            dict(ann_file='s3://bucket/images.json'),
            dict(data_prefix=dict(img='s3://bucket/images')),
            dict(backend_args=dict(backend='petrel')),
        ],
        ids=str,
    )
    def test_data_elsewhere_is_left_out(self, tmp_path, options):
        draw(tmp_path, present=())
        assert refusal(loading(coco(tmp_path, backend_args=None)))
        check_data(loading(coco(tmp_path, **options)))

    @pytest.mark.parametrize(
        'config',
        [
            {},
            dict(train_dataloader=None),
            dict(train_dataloader=dict(dataset=dict(type='Random', size=3))),
            dict(train_dataloader=dict(dataset=coco('nowhere', ann_file=''))),
        ],
    )
    def test_nothing_to_check(self, config):
        check_data(config)
        check_data(Config(config))


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
        assert re.search(r'1 of 3 images looked at have another size than .*images.json says', message)
        assert '2.png (is 10 x 12, not 9 x 9)' in message
        assert 'Take the images that belong to the file, or scale its annotations' in message

    def test_of_many_images_evenly_spread_ones_are_looked_at(self, tmp_path, monkeypatch):
        monkeypatch.setattr('mmmutual.datasets.image_files.MAX_OPENED', 3)
        config = self.drawn(tmp_path, 7, wrong=6, shape=(8, 9, 3))  # of 0 to 6, these are 0, 3 and 6
        assert '1 of 3 images looked at' in refusal(config, ValueError)

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
