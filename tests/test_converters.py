"""The converters of benchmarks/converters, on small originals."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

import bccd
import nuclei
from coco_layout import convert

XML = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
ID = 'd059ba7f5914a526d124d28e6d010c92466da21d4a04cd54'  # what follows the first 16 digits of a name
BLOOD = {  # corners as in the original: from 1, both inclusive
    'b_0': ('train', [('WBC', 11, 21, 30, 24), ('RBC', 1, 1, 40, 30), ('RBC', 504, 337, 504, 337)]),
    'b_1': ('val', [('Platelets', 0, -3, 10, 50)]),
    'b_3': ('train', [('RBC', 5, 6, 7, 9), ('RBC', 8, 8, 8, 20)]),
}


def write_blood(root: Path) -> Path:
    """Three labelled images of 40 x 30 pixels, and b_2, which no list names."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for name in (*BLOOD, 'b_2'):
        cv2.imwrite(str(root / f'JPEGImages/{name}.jpg'), np.full((30, 40, 3), 90, np.uint8))
    for name, (_, boxes) in BLOOD.items():
        objects = ''.join(XML.format(*box) for box in boxes)
        (root / f'Annotations/{name}.xml').write_text(f'<annotation>{objects}</annotation>')
    for part, file in (('train', 'trainval'), ('val', 'test')):
        names = [name for name, (of, _) in BLOOD.items() if of == part]
        (root / f'ImageSets/Main/{file}.txt').write_text('\n'.join(names) + '\n')
    return root.parent if root.name == 'BCCD' else root


def write_nuclei(root: Path) -> Path:
    """Images a with two nuclei and a speck, b and c without nuclei, and d, which is too large."""
    for letter, size in (('a', (60, 50)), ('b', (50, 360)), ('c', (8, 8)), ('d', (361, 50))):
        folder = root / 'stage1_train' / (letter * 16 + ID)
        (folder / 'images').mkdir(parents=True)
        image = np.zeros((*size, 4), np.uint8)  # with transparency, as the original
        image[..., :3], image[..., 3] = (200, 120, 40), 255
        cv2.imwrite(str(folder / f'images/{folder.name}.png'), image)
    (root / 'stage1_train/aaaa.csv').touch()
    (folder.parent / f'{"a" * 16}{ID}/masks').mkdir()
    for name, mask in masks_of_a().items():
        cv2.imwrite(str(root / f'stage1_train/{"a" * 16}{ID}/masks/{name}.png'), mask * 255)
    return root


def masks_of_a() -> dict[str, np.ndarray]:
    masks = {name: np.zeros((60, 50), np.uint8) for name in ('ring', 'small', 'speck')}
    masks['ring'][10:30, 5:45], masks['ring'][15:20, 10:20] = 1, 0
    masks['small'][59, 29:] = 1  # 21 pixels in a corner
    masks['speck'][:4, :5] = 1  # 20 pixels
    return masks


@pytest.fixture
def blood(tmp_path):
    return write_blood(tmp_path / 'clone' / 'BCCD')


@pytest.fixture
def cells(tmp_path, monkeypatch):
    (tmp_path / 'names.txt').write_text('b' * 16 + '\n')
    monkeypatch.setattr(nuclei, 'VALIDATION', tmp_path / 'names.txt')
    return write_nuclei(tmp_path / 'fixes')


def converted(converter, source: Path, folder: Path) -> dict[str, dict]:
    data_set = next(value for name, value in vars(converter).items() if name in ('BCCD', 'NUCLEI'))
    convert(data_set, converter.read, [str(source), str(folder)])
    paths = (folder / data_set.name / f'annotations/instances_{part}.json' for part in ('train', 'val'))
    return {path.stem.removeprefix('instances_'): json.loads(path.read_text()) for path in paths}


def error_of(converter, source: Path, folder: Path) -> str:
    """The sentence of a conversion that fails; it leaves nothing."""
    with pytest.raises(SystemExit) as caught:
        converted(converter, source, folder)
    assert not folder.is_dir() or not [*folder.iterdir()]
    return str(caught.value)


@pytest.mark.parametrize('top', ['BCCD', '.'])
def test_boxes_count_from_zero_and_end_at_the_rim(tmp_path, top):
    content = converted(bccd, write_blood(tmp_path / 'clone' / top), tmp_path / 'out')
    assert content['train']['annotations'] == [
        dict(id=1, image_id=1, category_id=2, bbox=[10, 20, 20, 4], area=80, iscrowd=0),
        dict(id=2, image_id=1, category_id=1, bbox=[0, 0, 40, 30], area=1200, iscrowd=0),
        dict(id=3, image_id=4, category_id=1, bbox=[4, 5, 3, 4], area=12, iscrowd=0),
    ]
    clipped = dict(id=4, image_id=2, category_id=3, bbox=[0, 0, 10, 30], area=300, iscrowd=0)
    assert content['val']['annotations'] == [clipped]
    sizes = dict(width=40, height=30)
    assert content['train']['images'] == [dict(id=i, file_name=f'b_{i - 1}.jpg', **sizes) for i in (1, 4)]
    assert content['val']['images'] == [dict(id=2, file_name='b_1.jpg', **sizes)]
    names = ['RBC', 'WBC', 'Platelets']
    assert content['val']['categories'] == [
        dict(id=i, name=name, supercategory='cell') for i, name in enumerate(names, 1)
    ]


def test_images_of_blood_are_copied(blood, tmp_path):
    converted(bccd, blood, tmp_path / 'out')
    found = sorted(path.relative_to(tmp_path / 'out/bccd') for path in (tmp_path / 'out').rglob('*.jpg'))
    assert [*map(str, found)] == ['train/b_0.jpg', 'train/b_3.jpg', 'val/b_1.jpg']
    assert (tmp_path / 'out/bccd' / found[2]).read_bytes() == (blood / 'BCCD/JPEGImages/b_1.jpg').read_bytes()


def test_masks_are_kept_exactly_and_specks_are_not(cells, tmp_path):
    content = converted(nuclei, cells, tmp_path / 'out')
    ring, small = content['train']['annotations']
    for each, name in ((ring, 'ring'), (small, 'small')):
        assert (mask_utils.decode(each.pop('segmentation')) == masks_of_a()[name]).all()
    assert ring == dict(id=1, image_id=1, category_id=1, bbox=[5, 10, 40, 20], area=750, iscrowd=0)
    assert small == dict(id=2, image_id=1, category_id=1, bbox=[29, 59, 21, 1], area=21, iscrowd=0)
    assert content['val']['annotations'] == []
    assert content['train']['categories'] == [dict(id=1, name='nucleus', supercategory='cell')]


def test_images_without_nuclei_stay_and_large_ones_do_not(cells, tmp_path):
    content = converted(nuclei, cells, tmp_path / 'out')
    assert content['train']['images'] == [
        dict(id=1, file_name='aaaaaaaaaaaaaaaa.jpg', width=50, height=60),
        dict(id=3, file_name='cccccccccccccccc.jpg', width=8, height=8),
    ]
    assert content['val']['images'] == [dict(id=2, file_name='bbbbbbbbbbbbbbbb.jpg', width=360, height=50)]
    for part, letters in (('train', 'ac'), ('val', 'b')):
        files = sorted((tmp_path / 'out/nuclei' / part).iterdir())
        assert [path.name for path in files] == [f'{letter * 16}.jpg' for letter in letters]
        for path in files:
            pixels = cv2.imread(str(path))
            assert np.abs(pixels.astype(int) - (200, 120, 40)).max() <= 2
            drawn = np.full_like(pixels, (200, 120, 40))
            assert path.read_bytes() == cv2.imencode('.jpg', drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def test_evaluators_read_the_result(cells, tmp_path):
    converted(nuclei, cells, tmp_path / 'out')
    coco = COCO(tmp_path / 'out/nuclei/annotations/instances_train.json')
    assert coco.annToMask(coco.anns[1]).sum() == 750


def test_the_shipped_validation_images():
    names = nuclei.VALIDATION.read_text().split()
    assert len({*names}) == len(names) == 118 and names == sorted(names)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)


def test_the_script_says_what_it_wrote(blood, tmp_path, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['bccd.py', str(blood), f'{tmp_path}/my data'])
    runpy.run_path(str(root / 'benchmarks/converters/bccd.py'), run_name='__main__')
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f'{tmp_path}/my data/bccd/train: 2 images, 3 objects',
        f'{tmp_path}/my data/bccd/val: 1 images, 1 objects',
        f"When you have both data sets, run: python benchmarks/photographs.py --data '{tmp_path}/my data'",
    ]
    assert 'bccd: 100%' in printed.err


def test_existing_data_is_not_replaced(blood, tmp_path):
    (tmp_path / 'out/bccd').mkdir(parents=True)  # an empty folder is not data
    converted(bccd, blood, tmp_path / 'out')
    with pytest.raises(SystemExit, match='out/bccd already has data: remove it, or choose another FOLDER'):
        converted(bccd, blood, tmp_path / 'out')
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match='error: .*file'):
        converted(bccd, blood, tmp_path / 'file')


@pytest.mark.parametrize('converter, name', [(bccd, 'BCCD_Dataset'), (nuclei, 'kaggle-dsbowl-2018-dataset-fixes')])
def test_missing_folder(tmp_path, converter, name):
    message = error_of(converter, tmp_path / 'absent', tmp_path / 'out')
    assert message.startswith(f'error: {tmp_path}/absent is not a folder: download the original with `git clone https:')
    assert message.endswith(f'/{name}`')


def test_wrong_layout(blood, cells, tmp_path):
    (blood / 'BCCD/ImageSets/Main/test.txt').unlink()
    message = error_of(bccd, blood, tmp_path / 'out')
    assert 'clone does not have ImageSets/Main/test.txt, in it or in its folder BCCD: download' in message
    message = error_of(nuclei, blood, tmp_path / 'out')
    assert 'clone does not have stage1_train with a folder for each image: download' in message
    nuclei.VALIDATION.write_text('bbbbbbbbbbbbbbbb\n0123456789abcdef')
    message = error_of(nuclei, cells, tmp_path / 'out')
    assert 'does not have 1 of the 2 validation images, for example 0123456789abcdef: download' in message


@pytest.mark.parametrize('path', ['JPEGImages/b_1.jpg', 'Annotations/b_1.xml'])
def test_missing_file_of_a_list(blood, tmp_path, path):
    (blood / 'BCCD' / path).unlink()
    message = error_of(bccd, blood, tmp_path / 'out')
    assert f'{path} is missing, but {blood}/BCCD/ImageSets/Main/test.txt names it: restore it with git' in message


@pytest.mark.parametrize(
    'content, problem',
    [
        (XML.format('XYZ', 1, 2, 3, 4), "b_0.xml has the unknown class 'XYZ', known are RBC, WBC, Platelets: restore"),
        (XML.format('RBC', 1, 2, 3, ''), 'b_0.xml is not a readable annotation (invalid literal'),
        ('<object>', 'b_0.xml is not a readable annotation (mismatched tag'),
    ],
)
def test_wrong_annotations(blood, tmp_path, content, problem):
    (blood / 'BCCD/Annotations/b_0.xml').write_text(f'<annotation>{content}</annotation>')
    assert problem in error_of(bccd, blood, tmp_path / 'out')


def test_unreadable_images(blood, cells, tmp_path):
    (blood / 'BCCD/JPEGImages/b_1.jpg').write_text('version https://git-lfs')
    assert 'b_1.jpg is not a readable image: restore it' in error_of(bccd, blood, tmp_path / 'out')
    folder = cells / 'stage1_train' / ('b' * 16 + ID)
    (folder / f'images/{folder.name}.png').unlink()
    message = error_of(nuclei, cells, tmp_path / 'out')
    assert f'{folder.name}.png is missing or not a readable image: restore it with git' in message


def test_mask_of_another_size(cells, tmp_path):
    path = cells / f'stage1_train/{"a" * 16}{ID}/masks/small.png'
    cv2.imwrite(str(path), np.zeros((10, 20), np.uint8))
    message = error_of(nuclei, cells, tmp_path / 'out')
    assert 'small.png has 20 x 10 pixels, but its image has 50 x 60: restore it with git' in message
