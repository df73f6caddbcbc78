"""The folder of a drawn set: when it is drawn, kept, refused and replaced; wrong arguments."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest

from mmmutual.datasets import shapes
from mmmutual.datasets.shapes import draw_shapes
from mmmutual.datasets.shapes_image import draw_image
from mmmutual.datasets.shapes_options import ShapesOptions
from tests.support.drawn_shapes import SMALL, load, read_folder
from tests.support.tiny import ROOT


class TestFolder:
    """When a set is drawn, kept, refused and replaced."""

    def test_second_call_returns_at_once(self, tmp_path, monkeypatch, capsys):
        assert draw_shapes(tmp_path / 'set', **SMALL)
        monkeypatch.setattr(shapes, 'draw_image', None)
        before = read_folder(tmp_path / 'set')
        assert not draw_shapes(tmp_path / 'set', **SMALL)
        assert 'already drawn' in capsys.readouterr().out
        assert read_folder(tmp_path / 'set') == before

    def test_other_arguments_need_force(self, tmp_path):
        root = tmp_path / 'set'
        draw_shapes(root, **SMALL)
        before = read_folder(root)
        other = {**SMALL, 'num_train': 3, 'seed': 5}
        with pytest.raises(
            ValueError,
            match=r'num_train=4 instead of 3, seed=0 instead of 5: '
            r'pass --force \(force=True\) to replace it, or another root',
        ):
            draw_shapes(root, **other)
        assert read_folder(root) == before
        assert draw_shapes(root, force=True, **other)
        assert len(load(root, 'train')['images']) == 3
        assert not (root / 'train' / '000003.png').exists()
        assert [path.name for path in tmp_path.iterdir()] == ['set']

    def test_force_draws_the_same_set_again(self, tmp_path):
        draw_shapes(tmp_path / 'set', **SMALL)
        before = read_folder(tmp_path / 'set')
        (tmp_path / 'set' / 'train' / '000001.png').unlink()
        assert draw_shapes(tmp_path / 'set', force=True, **SMALL)
        assert read_folder(tmp_path / 'set') == before

    def test_other_format_version_needs_force(self, tmp_path, monkeypatch):
        draw_shapes(tmp_path / 'set', **SMALL)
        monkeypatch.setattr(shapes, 'FORMAT_VERSION', 99)
        with pytest.raises(ValueError, match='version=.* instead of 99'):
            draw_shapes(tmp_path / 'set', **SMALL)

    def test_empty_folder_is_filled(self, tmp_path):
        assert draw_shapes(tmp_path, **SMALL)
        assert (tmp_path / 'val' / '000001.png').exists()

    @pytest.mark.parametrize('force', [False, True])
    @pytest.mark.parametrize(
        'content',
        [
            '',
            '{}',
            '{"info": {}}',
            '[]',
            '{"info": {"description": "COCO 2017 Dataset", "version": 1, "arguments": {}}}',
        ],
    )
    def test_anything_but_a_set_is_left_alone(self, tmp_path, force, content):
        file = tmp_path / 'annotations' / 'val.json'
        file.parent.mkdir()
        file.write_text(content)
        with pytest.raises(ValueError, match='holds something other than a set of shapes'):
            draw_shapes(tmp_path, force=force, **SMALL)
        assert file.read_text() == content

    @pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
    def test_failure_half_way_leaves_nothing(self, tmp_path, monkeypatch, error):
        def fail(options, split, index):
            if (split, index) == ('val', 1):
                raise error
            return draw_image(options, split, index)

        root = tmp_path / 'set'
        with monkeypatch.context() as patch:
            patch.setattr(shapes, 'draw_image', fail)
            with pytest.raises(error):
                draw_shapes(root, **SMALL)
            assert list(tmp_path.iterdir()) == []
        draw_shapes(root, **SMALL)
        before = read_folder(root)
        monkeypatch.setattr(shapes, 'draw_image', fail)
        with pytest.raises(error):
            draw_shapes(root, force=True, **SMALL)
        assert read_folder(root) == before, 'the former set is lost'

    @pytest.mark.integration
    def test_killed_half_way_is_not_taken_for_a_set(self, tmp_path):
        code = (
            'import os, sys\n'
            'from mmmutual.datasets import shapes\n'
            'draw = shapes.draw_image\n'
            'shapes.draw_image = lambda options, split, index: (\n'
            '    os._exit(9) if (split, index) == ("val", 1)\n'
            '    else draw(options, split, index))\n'
            f'shapes.draw_shapes(sys.argv[1], **{SMALL})\n'
        )
        root = tmp_path / 'set'
        run = subprocess.run([sys.executable, '-c', code, str(root)], cwd=ROOT)
        assert run.returncode == 9
        assert not root.exists()
        assert draw_shapes(root, **SMALL)
        assert len(read_folder(root)) == 8

    @pytest.mark.parametrize('same', [True, False])
    def test_another_process_was_faster(self, tmp_path, monkeypatch, same):
        """Both processes find no set and draw one; the later keeps the earlier's."""
        root = tmp_path / 'set'
        publish = shapes._publish

        def publish_late(*args):
            monkeypatch.setattr(shapes, '_publish', publish)
            draw_shapes(root, **(SMALL if same else {**SMALL, 'seed': 1}))
            publish(*args)

        monkeypatch.setattr(shapes, '_publish', publish_late)
        if same:
            assert draw_shapes(root, **SMALL)
        else:
            with pytest.raises(ValueError, match='seed=1 instead of 0'):
                draw_shapes(root, **SMALL)
        assert len(read_folder(root)) == 8
        assert list(tmp_path.iterdir()) == [root]

    def test_image_that_cannot_be_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
        with pytest.raises(OSError, match='000000.png could not be written'):
            draw_shapes(tmp_path / 'set', **SMALL)
        assert list(tmp_path.iterdir()) == []


class TestErrors:
    """Every refused argument is named with its value and what is allowed."""

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(num_train=0), 'num_train=0 is not allowed: pass at least 1'),
            (dict(num_val=-1), 'num_val=-1 is not allowed: pass at least 1'),
            (dict(image_size=31), 'image_size=31 is not allowed: pass at least 32'),
            (dict(seed=-1), 'seed=-1 is not allowed: pass at least 0'),
            (dict(min_size=7), 'min_size=7 is not allowed: pass at least 8 and at most 80'),
            (dict(min_size=40, max_size=39), 'min_size=40 is not allowed: pass at least 8 and at most 39'),
            (dict(max_size=7), 'max_size=7 is not allowed: pass at least 8 and at most 128'),
            (dict(max_size=129), 'max_size=129 is not allowed: pass at least 8 and at most 128'),
            (dict(max_size=float('nan')), 'max_size=nan is not allowed'),
            (dict(min_objects=0), 'min_objects=0 is not allowed: pass at least 1 and at most 7'),
            (dict(min_objects=8), 'min_objects=8 is not allowed: pass at least 1 and at most 7'),
            (dict(max_objects=0), 'max_objects=0 is not allowed: pass at least 1'),
            (dict(min_visible=1.1), 'min_visible=1.1 is not allowed: pass at least 0 and at most 1'),
            (dict(min_visible=-0.1), 'min_visible=-0.1 is not allowed: pass at least 0 and at most 1'),
            (dict(shapes=[]), r'shapes=\(\) is not allowed: pass one or more of .*circle'),
            (
                dict(shapes=['circle', 'cube']),
                r"shapes=\('circle', 'cube'\) is not allowed: pass one or more of .*'star'",
            ),
            (dict(textures=['furry']), r"textures=\('furry',\) is not allowed: pass one or more of .*'striped'"),
        ],
    )
    def test_argument(self, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            draw_shapes(tmp_path / 'set', progress=False, **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_limits_are_allowed(self):
        lowest = ShapesOptions(
            num_train=1, num_val=1, image_size=32, min_size=8, max_size=8, min_objects=1, max_objects=1, min_visible=1
        )
        assert (lowest.num_train, lowest.image_size, lowest.min_size, lowest.largest) == (1, 32, 8, 8)
        highest = ShapesOptions(min_size=128, max_size=128, min_objects=7, min_visible=0)
        assert (highest.min_size, highest.largest, highest.min_objects, highest.min_visible) == (128, 128, 7, 0)

    def test_smallest_image(self):
        for index in range(20):
            image, masks, names = draw_image(ShapesOptions(image_size=32), 'train', index)
            assert image.shape == (32, 32, 3)
            assert masks.shape == (len(names), 32, 32)

    def test_root_is_a_file(self, tmp_path):
        (tmp_path / 'file').write_text('kept')
        with pytest.raises(ValueError, match='file holds something other than a set of shapes'):
            draw_shapes(tmp_path / 'file', force=True, **SMALL)
        assert (tmp_path / 'file').read_text() == 'kept'

    def test_root_cannot_be_written(self, tmp_path):
        (tmp_path / 'file').touch()
        with pytest.raises(ValueError, match='root=.*set cannot be written .*: choose another'):
            draw_shapes(tmp_path / 'file' / 'set', **SMALL)
