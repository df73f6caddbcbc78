"""The command line of tools/misc/draw_shapes.py."""

from __future__ import annotations

import sys

import cv2
import pytest

import draw_shapes as draw_shapes_tool
from mmmutual.datasets import shapes_options
from mmmutual.datasets.shapes import draw_shapes
from mmmutual.evaluation.plotting import class_colors
from tests.support.drawn_shapes import load, read_folder


class TestCommandLine:
    """tools/misc/draw_shapes.py."""

    @pytest.fixture
    def call(self, monkeypatch):
        """Call the tool with arguments."""

        def run(*args):
            monkeypatch.setattr(sys, 'argv', ['draw_shapes.py', *map(str, args)])
            draw_shapes_tool.main()

        return run

    def test_arguments_arrive(self, call, tmp_path):
        call(
            '--root',
            tmp_path / 'a',
            '--num-train',
            3,
            '--num-val',
            2,
            '--image-size',
            64,
            '--seed',
            9,
            '--shapes',
            'star',
            'square',
            '--textures',
            'solid',
            '--min-size',
            10,
            '--max-size',
            30,
        )
        draw_shapes(
            tmp_path / 'b',
            num_train=3,
            num_val=2,
            image_size=64,
            seed=9,
            shapes=['square', 'star'],
            textures=['solid'],
            min_size=10,
            max_size=30,
            progress=False,
        )
        first, second = read_folder(tmp_path / 'a'), read_folder(tmp_path / 'b')
        assert all(first[name] == second[name] for name in second if name.endswith('.png'))
        assert load(tmp_path / 'a', 'val') == load(tmp_path / 'b', 'val')

    def test_error_is_one_line(self, call, tmp_path):
        with pytest.raises(SystemExit, match='^error: num_train=0 is not allowed'):
            call('--root', tmp_path / 'set', '--num-train', 0)

    def test_force(self, call, tmp_path):
        small = ('--root', tmp_path / 'set', '--num-val', 1, '--image-size', 64)
        call(*small, '--num-train', 2)
        with pytest.raises(SystemExit, match='num_train=2 instead of 1: pass --force'):
            call(*small, '--num-train', 1)
        call(*small, '--num-train', 1, '--force')
        assert len(load(tmp_path / 'set', 'train')['images']) == 1

    @pytest.mark.parametrize('image_size', [64, 100])
    def test_preview(self, call, tmp_path, image_size):
        sheet_file = tmp_path / 'new' / 'folder' / 'sheet.png'
        call(
            '--root',
            tmp_path / 'set',
            '--num-train',
            25,
            '--num-val',
            1,
            '--image-size',
            image_size,
            '--preview',
            sheet_file,
        )
        sheet = cv2.imread(str(sheet_file))
        colors = [color[::-1] for color in class_colors(shapes_options.class_names())]
        assert sheet.shape == (4 * 390 + 6, 6 * 390 + 6, 3)
        for y in range(6, 4 * 390, 390):
            for x in range(6, 6 * 390, 390):
                tile = sheet[y : y + 384, x : x + 384]
                assert (tile == 255).all(2).mean() < 0.2, 'an image is missing'
                assert any((tile == color).all(2).any() for color in colors), 'no mask is outlined'

    def test_preview_that_cannot_be_written(self, call, tmp_path, monkeypatch):
        small = ('--root', tmp_path / 'set', '--num-train', 1, '--num-val', 1)
        call(*small)
        monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
        with pytest.raises(SystemExit, match='--preview .*sheet.png could not be written'):
            call(*small, '--preview', tmp_path / 'sheet.png')
