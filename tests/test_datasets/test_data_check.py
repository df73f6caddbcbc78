"""Missing or damaged data is reported before a model is built."""

import json
import re
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmmutual.datasets import check_data, draw_shapes
from tests.support.coco_folder import coco, draw, loading, refusal


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
        assert 'is not in COCO format' in refusal(
            dict(train_dataloader=dict(dataset=coco(data, type=kind))), ValueError
        )

    @pytest.mark.parametrize('kind', ['LVISV1Dataset', 'CocoPanopticDataset', 'MyCocoDataset'])
    def test_of_another_data_set_needs_only_be_there(self, data, kind):
        """LVIS names no files, for instance."""
        (data / 'images.json').write_text('{}')
        check_data(loading(coco(data, type=kind)))
        (data / 'images.json').unlink()
        assert 'no annotation file' in refusal(loading(coco(data, type=kind)))


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
