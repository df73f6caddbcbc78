"""The classes of a data set's config, and what is known of subclasses of ``CocoDataset``."""

import contextlib
import os

import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from mmmutual.datasets import check_data
from mmmutual.datasets.completed_coco import read_completed
from tests.support import small_coco
from tests.support.small_coco import all_of, notes, refusal


class TestClasses:
    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_a_text_without_comma(self, split, tmp_path):
        small_coco.write(tmp_path)
        use = small_coco.training if split == 'train' else small_coco.validation
        message = refusal(use(tmp_path, metainfo=dict(classes='cat')))
        assert (
            f"{split}_dataloader: metainfo.classes is the text 'cat'" in message and "write ('cat',), with" in message
        )

    def test_a_file(self, tmp_path):
        small_coco.write(tmp_path)
        names = tmp_path / 'classes.txt'
        names.write_text('cat\ndog\n')
        check_data(small_coco.training(tmp_path, metainfo=dict(classes=str(names))))
        names.write_text('dog\ncat')
        assert "come in the order ['cat', 'dog']" in refusal(
            small_coco.training(tmp_path, metainfo=dict(classes=str(names)))
        )
        names.write_text('cat\n\ndog\n')
        assert 'has a blank line' in refusal(small_coco.training(tmp_path, metainfo=dict(classes=str(names))))

    def test_the_key_of_another_version(self, tmp_path):
        small_coco.write(tmp_path)
        assert "metainfo has 'CLASSES'" in refusal(small_coco.training(tmp_path, metainfo=dict(CLASSES=('cat', 'dog'))))

    def test_named_twice(self, tmp_path):
        small_coco.write(tmp_path, lambda c: c['categories'].append(dict(id=3, name='cat')))
        message = refusal(small_coco.training(tmp_path, metainfo=dict(classes=('cat', 'dog', 'cat'))))
        assert "metainfo.classes has ['cat'] more than once" in message

    def test_an_unused_root_of_the_same_name_is_left_out(self, tmp_path, capsys):
        small_coco.write(tmp_path, lambda c: c['categories'].insert(0, dict(id=0, name='cat', supercategory='none')))
        said = notes(small_coco.training(tmp_path), capsys)
        assert '1 categories without objects share their name with another category and are left out' in said

    def test_two_used_categories_of_one_name(self, tmp_path):
        def change(data):
            data['categories'].append(dict(id=3, name='cat'))
            data['annotations'][0]['category_id'] = 3

        small_coco.write(tmp_path, change)
        assert "several categories that have objects share the name ['cat']" in refusal(small_coco.training(tmp_path))


class TestSubclasses:
    """The checks of the files of a class depend on the methods that it overrides."""

    class Named(CocoDataset):
        METAINFO = dict(classes=small_coco.CLASSES)

    class Extended(Named):
        def load_data_list(self):
            return super().load_data_list()[:2]

        def parse_data_info(self, raw_data_info):
            return dict(super().parse_data_info(raw_data_info), source='here')

    class Rewritten(Named):
        def parse_data_info(self, raw_data_info):
            return dict(img_path='elsewhere', instances=[])

    class Unfiltered(Named):
        def filter_data(self):
            return self.data_list

    @pytest.fixture
    def config(self, tmp_path):
        small_coco.write(tmp_path, all_of(area=0))

        def make(kind, **options):
            config = small_coco.training(tmp_path, type=kind, **options)
            del config.train_dataloader.dataset['metainfo']
            return config

        return make

    @pytest.mark.parametrize('kind', [Named, Extended])
    def test_that_read_as_the_base_class_does(self, kind, config):
        assert 'no object is left' in refusal(config(kind))

    def test_by_their_registered_name(self, config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATASETS.module_dict, 'NamedInATest', self.Named)
            assert 'no object is left' in refusal(config('NamedInATest'))

    def test_that_read_otherwise(self, config, tmp_path):
        check_data(config(self.Rewritten))
        (tmp_path / 'all.json').unlink()
        assert 'there is no annotation file' in refusal(config(self.Rewritten))

    def test_images_may_be_elsewhere(self, config, tmp_path):
        small_coco.write(tmp_path)
        (tmp_path / 'images' / '1.png').unlink()
        assert '1 of the 4 images' in refusal(config(self.Named))
        check_data(config(self.Extended))

    def test_with_a_filter_of_their_own(self, config, tmp_path):
        small_coco.write(tmp_path)
        assert 'leaves out all 4' in refusal(config(self.Named, filter_cfg=dict(min_size=999)))
        check_data(config(self.Unfiltered, filter_cfg=dict(min_size=999)))

    @pytest.mark.parametrize('kind', ['Objects365V1Dataset', 'CityscapesDataset'])
    def test_of_mmdet(self, kind, config, tmp_path):
        small_coco.write(tmp_path, lambda c: c['annotations'][0].pop('bbox'))
        assert "annotations[0] with id 1 has no 'bbox'" in refusal(config(kind))

    @pytest.mark.parametrize('kind', ['Objects365V1Dataset', 'Objects365V2Dataset'])
    def test_of_mmdet_that_sort_categories_or_images(self, kind, config, tmp_path):
        """Their objects are checked, before and after the reader is replaced."""
        settings = small_coco.training(tmp_path, type=kind)
        assert 'no object is left' in refusal(settings)
        read_completed()
        assert 'no object is left' in refusal(settings)
        small_coco.write(tmp_path, lambda c: c['categories'].reverse())
        check_data(settings)
        small_coco.write(tmp_path, lambda c: c['categories'][0].update(name='cow'))
        assert "metainfo.classes also has ['cat']" in refusal(settings)


def test_files_of_the_local_backend_are_checked(tmp_path):
    small_coco.write(tmp_path)
    (tmp_path / 'all.json').unlink()
    assert 'there is no annotation file' in refusal(small_coco.training(tmp_path, backend_args=dict(backend='local')))
    check_data(small_coco.training(tmp_path, backend_args=dict(backend='petrel')))


@pytest.mark.parametrize('prefix', [{}, dict(img_path='images/'), dict(seg='masks/'), dict(img=None)], ids=str)
def test_a_folder_of_images_is_needed(prefix, tmp_path):
    """Stock data sets fail without its name once they are built."""
    small_coco.write(tmp_path)
    settings = small_coco.training(tmp_path, data_prefix=prefix)
    assert f'train_dataloader: data_prefix is {prefix}, but has to be dict(img=FOLDER)' in refusal(settings)
    with pytest.raises((KeyError, TypeError)), contextlib.redirect_stdout(None):
        DATASETS.build(settings.train_dataloader.dataset)
    del settings.train_dataloader.dataset['data_prefix']
    assert 'train_dataloader: data_prefix is None, but has to be' in refusal(settings)


@pytest.mark.skipif(os.sep != '/', reason='Windows reads both')
def test_names_of_images_with_backslashes(tmp_path):
    small_coco.write(tmp_path, lambda c: c['images'][0].update(file_name='sub\\1.png'))
    message = refusal(small_coco.training(tmp_path))
    assert (
        "for example sub\\1.png. Put them there, or set data_prefix, and write / instead of \\ in each 'file_"
        in message
    )
    small_coco.write(tmp_path)
    (tmp_path / 'images' / '2.png').unlink()
    assert 'instead of' not in refusal(small_coco.training(tmp_path))


def test_names_of_images_below_the_root(tmp_path):
    small_coco.write(tmp_path, lambda c: [one.update(file_name='images/' + one['file_name']) for one in c['images']])
    check_data(small_coco.training(tmp_path, data_prefix=dict(img='')))
