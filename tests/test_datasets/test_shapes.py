"""The procedurally drawn data set 'shapes'."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmmutual.datasets import shapes, shapes_image, shapes_options
from mmmutual.datasets.shapes import draw_shapes
from mmmutual.datasets.shapes_image import draw_image
from mmmutual.datasets.shapes_options import ShapesOptions
from mmmutual.evaluation.plotting import class_colors

REPOSITORY = Path(__file__).parents[2]
SMALL = dict(num_train=4, num_val=2, image_size=64, progress=False)


def read_folder(root: Path) -> dict[str, bytes]:
    """Read all files under a folder by their relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def load(root: Path, split: str) -> dict:
    """Load the annotations of a split."""
    return json.loads((root / 'annotations' / f'{split}.json').read_bytes())


@pytest.fixture(scope='module')
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a set with the default objects, which no test may change."""
    root = tmp_path_factory.mktemp('shapes') / 'set'
    draw_shapes(root, num_train=200, num_val=10, progress=False)
    return root


@pytest.fixture
def plain_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the background by grey."""
    monkeypatch.setattr(shapes_image, '_draw_background', lambda rng, size: np.full((size, size, 3), 127, np.float32))


class TestContent:
    """What is drawn and annotated."""

    def test_layout(self, drawn):
        files = read_folder(drawn)
        expected = {f'train/{i:06d}.png' for i in range(200)}
        expected |= {f'val/{i:06d}.png' for i in range(10)}
        assert set(files) == expected | {'annotations/train.json', 'annotations/val.json'}
        info = load(drawn, 'val')['info']
        assert info['version'] == shapes.FORMAT_VERSION
        assert info['arguments']['num_train'] == 200
        assert info['arguments']['max_size'] == 80

    def test_coco_loads_it(self, drawn):
        coco = COCO(drawn / 'annotations' / 'train.json')
        assert len(coco.imgs) == 200
        for image in coco.imgs.values():
            pixels = cv2.imread(str(drawn / 'train' / image['file_name']))
            assert pixels.shape == (image['height'], image['width'], 3) == (128, 128, 3)
        for annotation in coco.anns.values():
            assert coco.annToMask(annotation).sum() == annotation['area']
            assert annotation['image_id'] in coco.imgs
            assert annotation['iscrowd'] == 0

    def test_box_and_area_are_those_of_the_mask(self, drawn):
        for annotation in load(drawn, 'train')['annotations']:
            mask = mask_utils.decode(annotation['segmentation'])
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation['bbox'] == box
            assert annotation['area'] == len(ys)

    def test_annotations_are_the_masks_of_the_image(self, drawn):
        coco = COCO(drawn / 'annotations' / 'val.json')
        image, masks, names = draw_image(ShapesOptions(num_train=200, num_val=10), 'val', 7)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=8))
        assert np.array_equal(cv2.imread(str(drawn / 'val' / coco.imgs[8]['file_name'])), image)
        assert [coco.cats[a['category_id']]['name'] for a in annotations] == names
        assert np.array_equal([coco.annToMask(a) for a in annotations], masks)

    def test_no_two_masks_overlap(self, drawn):
        coco = COCO(drawn / 'annotations' / 'train.json')
        for items in coco.imgToAnns.values():
            assert np.sum([coco.annToMask(item) for item in items], axis=0).max() == 1

    def test_classes_are_near_balanced(self, drawn):
        coco = load(drawn, 'train')
        assert tuple(c['name'] for c in coco['categories']) == shapes_options.class_names()
        counts = Counter(a['category_id'] for a in coco['annotations'])
        mean = len(coco['annotations']) / len(coco['categories'])
        assert set(counts) == {c['id'] for c in coco['categories']}
        assert mean > 70
        # 3.5 standard deviations of a uniform draw.
        assert all(abs(count - mean) < 3.5 * mean**0.5 for count in counts.values())

    def test_number_of_objects(self, drawn):
        counts = Counter(a['image_id'] for a in load(drawn, 'train')['annotations'])
        assert set(counts) == set(range(1, 201))
        assert set(counts.values()) == {3, 4, 5, 6, 7}

    def test_every_object_keeps_its_visible_share(self):
        options = ShapesOptions(shapes=['circle'], min_size=36, max_size=36, min_visible=0.7)
        areas = [mask.sum() for i in range(60) for mask in draw_image(options, 'train', i)[1]]
        whole = np.pi * 18**2
        assert min(areas) >= 0.7 * 0.98 * whole  # 0.98 for the rounding to pixels
        assert min(areas) < 0.75 * whole, 'no object is occluded: the test shows nothing'
        assert max(areas) < 1.04 * whole

    def test_every_object_keeps_some_pixels(self):
        options = ShapesOptions(shapes=['star'], image_size=32, min_size=8, max_size=12, min_visible=0)
        areas = [mask.sum() for i in range(100) for mask in draw_image(options, 'train', i)[1]]
        assert shapes_image.MIN_PIXELS <= min(areas) < shapes_image.MIN_PIXELS + 5

    def test_sizes_are_log_uniform(self):
        options = ShapesOptions(shapes=['circle'], min_size=8, max_size=64, min_objects=1, max_objects=1, min_visible=1)
        sizes = [2 * (draw_image(options, 'train', i)[1].sum() / np.pi) ** 0.5 for i in range(300)]
        assert 7.7 < min(sizes) < 9 and 60 < max(sizes) < 65
        octaves = np.histogram(np.log2(sizes), [2.9, 4, 5, 6.1])[0]
        assert octaves.sum() == 300
        assert octaves.min() > 70

    def test_mask_is_the_visible_part(self, plain_background):
        """The pixels of a solid object have one colour, so none of another object's."""
        options = ShapesOptions(textures=['solid'])
        colours = []
        for index in range(20):
            image, masks, _ = draw_image(options, 'train', index)
            for mask in masks:
                inner = cv2.erode(np.pad(mask, 1).astype(np.uint8), np.ones((3, 3)))
                pixels = image[inner[1:-1, 1:-1] > 0]
                if len(pixels):
                    assert pixels.std(0).max() < 6  # the noise has 3
                    colours.append(pixels.mean(0))
        assert np.std(colours, axis=0).min() > 50, 'the objects are not drawn'

    def test_border_cuts_off_what_lies_beyond_it(self):
        options = ShapesOptions(shapes=['circle'], min_size=40, max_size=40, min_objects=1, max_objects=1)
        num_cut = 0
        for index in range(80):
            mask = draw_image(options, 'train', index)[1][0]
            for side in (mask, mask[:, ::-1], mask.T, mask.T[:, ::-1]):
                width = np.count_nonzero(side.any(0))
                if side[:, 0].any() and width < 36 and not side[[0, -1]].any():
                    chord = 2 * (20**2 - (width - 20) ** 2) ** 0.5
                    assert side[:, 0].sum() == pytest.approx(chord, abs=4)
                    num_cut += 1
        assert num_cut > 10

    def test_nothing_unlabelled_is_drawn(self, plain_background):
        for index in range(20):
            image, masks, _ = draw_image(ShapesOptions(), 'train', index)
            near = cv2.dilate(masks.any(0).astype(np.uint8), np.ones((3, 3))) > 0
            assert np.abs(image[~near].astype(int) - 127).max() < 20  # the noise has 3

    @pytest.mark.parametrize('shape, corners, solidity', [('triangle', 3, 1), ('square', 4, 1), ('star', 10, 0.59)])
    def test_shape_has_its_corners(self, shape, corners, solidity):
        """Solidity is the area over that of the convex hull."""
        options = ShapesOptions(shapes=[shape], min_size=60, max_size=60, min_objects=1, max_objects=1, min_visible=1)
        for index in range(5):
            mask = draw_image(options, 'train', index)[1][0].astype(np.uint8)
            (contour,) = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            assert len(cv2.approxPolyDP(contour, 3, True)) == corners
            hull = cv2.contourArea(cv2.convexHull(contour))
            assert cv2.contourArea(contour) / hull == pytest.approx(solidity, abs=0.04)

    @pytest.mark.parametrize(
        'texture, share, symmetric',
        [('striped', 1 / 2, False), ('dotted', np.pi * 0.32**2, True), ('checked', 1 / 2, True), ('solid', 1, True)],
    )
    def test_texture(self, texture, share, symmetric):
        """A quarter turn leaves the spectrum of all but stripes as it is."""
        tone = shapes_image._draw_texture(np.random.default_rng(0), texture, 512, 16)
        assert tone.mean() == pytest.approx(share, abs=0.02)
        spectrum = np.abs(np.fft.fft2(tone - tone.mean())[1:, 1:])
        correlation = (spectrum * np.rot90(spectrum)).sum() / max((spectrum**2).sum(), 1)
        assert texture == 'solid' or (correlation > 0.5) == symmetric
        assert (texture == 'solid') == (tone.std() == 0)

    def test_colours_contrast_and_vary(self):
        rng = np.random.default_rng(0)
        colours = np.stack([shapes_image._contrasting_colours(rng) for _ in range(200)])
        luma = colours @ [0.114, 0.587, 0.299]
        assert np.abs(luma[:, 0] - luma[:, 1]).min() >= 90
        assert 70 < (luma[:, 0] > luma[:, 1]).sum() < 130, 'the tones tell the texture'
        assert colours.std((0, 1)).min() > 50

    def test_mmdet_loads_it(self, tmp_path):
        for textures in (['solid', 'striped'], shapes_options.TEXTURES):
            root = tmp_path / '-'.join(textures)
            draw_shapes(root, shapes=shapes_options.SHAPES, textures=textures, **SMALL)
            classes = shapes_options.class_names(shapes_options.SHAPES, textures)
            dataset = CocoDataset(
                ann_file='annotations/train.json',
                data_root=str(root),
                data_prefix=dict(img='train/'),
                metainfo=dict(classes=classes),
                pipeline=[LoadImageFromFile(), LoadAnnotations(with_bbox=True, with_mask=True)],
            )
            options = ShapesOptions(
                num_train=4, num_val=2, image_size=64, shapes=shapes_options.SHAPES, textures=textures
            )
            assert len(dataset) == 4
            for index, item in enumerate(dataset):
                image, masks, names = draw_image(options, 'train', index)
                assert np.array_equal(item['img'], image)
                assert np.array_equal(item['gt_masks'].masks, masks)
                assert [classes[label] for label in item['gt_bboxes_labels']] == names
        assert classes == shapes_options.CLASSES


class TestDeterminism:
    """What an image depends on."""

    def test_same_seed_same_bytes(self, tmp_path):
        for name, seed in (('a', 3), ('b', 3), ('c', 4)):
            draw_shapes(tmp_path / name, seed=seed, **SMALL)
        first, second, other = (read_folder(tmp_path / name) for name in 'abc')
        assert first == second
        assert first.keys() == other.keys()
        assert all(first[name] != other[name] for name in first)

    def test_image_does_not_depend_on_the_number_drawn(self, tmp_path):
        draw_shapes(tmp_path / 'few', **{**SMALL, 'num_train': 2})
        draw_shapes(tmp_path / 'many', **SMALL)
        few, many = read_folder(tmp_path / 'few'), read_folder(tmp_path / 'many')
        assert all(few[name] == many[name] for name in few if name.endswith('.png'))
        few, many = load(tmp_path / 'few', 'train'), load(tmp_path / 'many', 'train')
        assert few['annotations'] == many['annotations'][: len(few['annotations'])]

    def test_images_and_splits_differ(self, drawn):
        images = [data for name, data in read_folder(drawn).items() if name.endswith('.png')]
        assert len(images) == len(set(images)) == 210

    def test_order_of_a_selection_does_not_matter(self):
        assert ShapesOptions(shapes=['star', 'circle'], textures=['dotted', 'striped']) == ShapesOptions(
            shapes=['circle', 'star'], textures=['striped', 'dotted']
        )


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
        run = subprocess.run([sys.executable, '-c', code, str(root)], cwd=REPOSITORY)
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
        ShapesOptions(
            num_train=1, num_val=1, image_size=32, min_size=8, max_size=8, min_objects=1, max_objects=1, min_visible=1
        )
        ShapesOptions(min_size=128, max_size=128, min_objects=7, min_visible=0)

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


class TestCommandLine:
    """tools/misc/draw_shapes.py."""

    @pytest.fixture
    def call(self, monkeypatch):
        """Call the tool with arguments."""
        path = REPOSITORY / 'tools' / 'misc' / 'draw_shapes.py'
        spec = importlib.util.spec_from_file_location('draw_shapes_tool', path)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)

        def run(*args):
            monkeypatch.setattr(sys, 'argv', [str(path), *map(str, args)])
            tool.main()

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
