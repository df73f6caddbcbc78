"""The config, checkpoint, table and images that AdaptiveInferencer accepts and refuses."""

import hashlib
import shutil

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

from mmmutual.config import load_config
from mmmutual.inference import AdaptiveInferencer
from tests.support.inferencers import make, same, subnets, table


@pytest.mark.integration
def test_without_a_table_a_width_runs_and_a_budget_is_an_error(tiny_detector, images):
    plain = make(tiny_detector)
    assert subnets(plain(images[0], width=0.25)) == [(0.25, 1.0)]
    for choice in (dict(budget_ms=30), dict(budget_multiply_adds=1e9), dict(target_ms=30)):
        with pytest.raises(ValueError, match=r'need a query table: write one with tools/analysis_tools/query_table.py'):
            plain(images[0], **choice)


def test_a_table_is_read_from_its_file(tiny_detector, images, tmp_path):
    table().save(tmp_path / 'table.json')
    assert subnets(make(tiny_detector, table=tmp_path / 'table.json')(images[0], budget_ms=76)) == [(0.75, 1.0)]


def test_wrong_files_are_named(tiny_detector, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no config file nowhere.py'):
        make(tiny_detector, model='nowhere.py')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint file nowhere.pth'):
        make(tiny_detector, weights='nowhere.pth')
    with pytest.raises(FileNotFoundError, match='there is no query table nowhere.json'):
        make(tiny_detector, table='nowhere.json')
    with pytest.raises(TypeError, match='model must be a config or its file, but got None'):
        make(tiny_detector, model=None)
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='has another architecture than the config'):
        make(tiny_detector, weights=tmp_path / 'other.pth')


class Harmful:
    def __reduce__(self):
        return print, ('executed',)


def test_nothing_in_a_checkpoint_is_executed(tiny_detector, tmp_path, capsys):
    content = torch.load(tiny_detector / 'model.pth', weights_only=True)
    torch.save({**content, 'extra': Harmful()}, tmp_path / 'harmful.pth')
    with pytest.raises(ValueError, match='damaged or has objects other than weights'):
        make(tiny_detector, weights=tmp_path / 'harmful.pth')
    assert 'executed' not in capsys.readouterr().out


@pytest.mark.parametrize('same', [True, False])
def test_a_table_of_another_checkpoint_is_told(same, tiny_detector, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'mmmutual.inference.adaptive_inferencer.print_log', lambda message, **kwargs: messages.append(message)
    )
    digest = hashlib.sha256((tiny_detector / 'model.pth').read_bytes()).hexdigest() if same else 'another'
    make(tiny_detector, table=table(checkpoint_sha256=digest, checkpoint='epoch_3.pth'))
    assert len(messages) == (0 if same else 1)
    assert same or 'the query table was made for another checkpoint (epoch_3.pth)' in messages[0]


def test_folders_as_cameras_name_their_files(inferencer, images, tmp_path):
    for name, image in zip(('IMG_0001.PNG', 'b.png'), images):
        shutil.copy(image, tmp_path / name)
    assert same(inferencer(str(tmp_path)), inferencer(images[:2]))
    (tmp_path / 'b.png').unlink()
    assert len(inferencer(tmp_path)['predictions']) == 1
    (tmp_path / 'IMG_0001.PNG').unlink()
    with pytest.raises(ValueError, match=f'the folder {tmp_path} has no file that ends in'):
        inferencer(str(tmp_path))


def test_grey_arrays_and_files(inferencer, tiny_detector, images, tmp_path):
    """A detector for grey images takes colours too, and one for colours grey images."""
    grey = mmcv.imread(images[0], flag='grayscale')
    assert same(inferencer(grey), inferencer(mmcv.gray2bgr(grey)))
    with pytest.raises(ValueError, match='the model accepts images of 3 channels'):
        inferencer(np.zeros((64, 64, 4), np.uint8))
    config = load_config(tiny_detector / 'config.py')
    config.model.backbone.in_channels = 1
    config.model.data_preprocessor.update(mean=[100.0], std=[50.0], bgr_to_rgb=False)
    config.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    model = MODELS.build(config.model)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=['a'] * 4))), tmp_path / 'grey.pth'
    )
    ours = AdaptiveInferencer(config, tmp_path / 'grey.pth', device='cpu', show_progress=False)
    assert same(ours(images[0]), ours(mmcv.imread(images[0], flag='grayscale')))
    assert len(ours(mmcv.imread(images[0]))['predictions']) == 1


def test_a_stock_config_is_noticed(tiny_detector, tmp_path):
    config = load_config(tiny_detector / 'config.py')
    config.model.backbone.type, config.model.neck.type = 'ResNet', 'FPN'
    config.model.backbone.pop('widths')
    with pytest.raises(ValueError, match=rf'was trained mutually, .* next to it: {tiny_detector}/config.py'):
        AdaptiveInferencer(config, tiny_detector / 'model.pth', device='cpu')


@pytest.mark.parametrize('same', [True, False])
def test_other_classes_in_the_checkpoint_are_told(same, tiny_detector, monkeypatch, tmp_path):
    messages = []
    monkeypatch.setattr('mmmutual.checkpoint.classes.print_log', lambda message, **kwargs: messages.append(message))
    content = torch.load(tiny_detector / 'model.pth', weights_only=True)
    classes = content['meta']['dataset_meta']['classes']
    content['meta']['dataset_meta']['classes'] = classes if same else classes[::-1]
    torch.save(content, tmp_path / 'model.pth')
    assert (
        make(tiny_detector, weights=tmp_path / 'model.pth').model.dataset_meta['classes'][0]
        == classes[0 if same else -1]
    )
    assert len(messages) == (0 if same else 1)
    assert same or "detections have the checkpoint's names" in messages[0]
