"""The procedurally drawn data set 'shapes'."""

from __future__ import annotations

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
from tests.support.drawn_shapes import SMALL, load, read_folder


@pytest.fixture(scope='module')
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a set with the default objects, which no test may change."""
    root = tmp_path_factory.mktemp('shapes') / 'set'
    draw_shapes(root, num_train=200, num_val=10, progress=False)
    return root


@pytest.fixture
def uniform_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the background by grey."""
    monkeypatch.setattr(shapes_image, '_draw_background', lambda rng, size: np.full((size, size, 3), 127, np.float32))


class TestContent:
    """Drawings and annotations."""

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

    def test_mask_is_the_visible_part(self, uniform_background):
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

    def test_nothing_unlabelled_is_drawn(self, uniform_background):
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
    """Dependence of an image on the options."""

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
