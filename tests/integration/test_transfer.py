"""Fine-tuning on other classes, by the lines at the top of ``configs/transfer_mask_rcnn_r50.py``."""

import json
import re

import pytest
import torch
from mmengine.config import Config

from mmmutual.datasets import check_data, draw_shapes
from mmmutual.layers import SlimBatchNorm2d
from tests.support.tiny import ROOT, SIZE, build_runner, find_hook, run_training, tiny_config, without_validation

CLASSES = ('dotted square', 'dotted star')
CLASS_LAYERS = {f'roi_head.{name}.{part}' for name in ('bbox_head.fc_cls', 'mask_head.conv_logits')
                for part in ('weight', 'bias')}  # fmt: skip


def edited(folder, base: str, **lines) -> str:
    """The name of a copy of the config with another base and other values at its top."""
    text = (ROOT / 'configs' / 'transfer_mask_rcnn_r50.py').read_text()
    for name, value in dict(_base_=f'{ROOT}/configs/{base}', **lines).items():
        text, count = re.subn(rf'^{name} = .*$', f'{name} = {value!r}', text, count=1, flags=re.MULTILINE)
        assert count == 1, name
    (folder / 'my_data.py').write_text(text)
    return str(folder / 'my_data')


@pytest.fixture(scope='module')
def other_data(tmp_path_factory):
    """Images of two classes that the other set does not have."""
    root = tmp_path_factory.mktemp('other') / 'custom'
    options = dict(image_size=SIZE, min_size=16, min_objects=1, max_objects=3, shapes=['square', 'star'])
    draw_shapes(root, textures=['dotted'], num_train=4, num_val=4, progress=False, **options)
    return root


@pytest.fixture(scope='module')
def start(tiny_data, tmp_path_factory):
    """A checkpoint of four classes, trained and calibrated at four widths."""
    folder = tmp_path_factory.mktemp('start')
    config = without_validation(tiny_config(tiny_data, folder))
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=2))
    run_training(config)
    return folder / 'epoch_1.pth'


@pytest.fixture
def config_for(other_data, start, tmp_path):
    def make(**lines) -> Config:
        lines = dict(load_from=str(start), data_root=str(other_data), classes=CLASSES, lr=1e-3, **lines)
        name = edited(tmp_path, 'mutual_mask_rcnn_r18_shapes.py', **lines)
        return tiny_config(other_data, tmp_path / 'run', name)

    return make


@pytest.mark.parametrize('detector', ['mask', 'faster'])
def test_everything_follows_from_the_top(detector, tmp_path):
    lines = dict(
        data_root='mine',
        train=dict(ann_file='a.json', data_prefix=dict(img='images/')),
        val=dict(ann_file='b.json', data_prefix=dict(img='images/')),
        classes=('x', 'y', 'z'),
        batch_size=3,
        lr=0.5,
        max_epochs=7,
        val_interval=2,
        save_best='auto',
        max_per_img=300,
        image_scale=(640, 640),
        widths=(1.0, 0.75, 0.7),
    )
    config = Config.fromfile(edited(tmp_path, f'mutual_{detector}_rcnn_r50.py', **lines) + '.py')
    for split, file in (('train', 'a.json'), ('val', 'b.json'), ('test', 'b.json')):
        dataset = config[f'{split}_dataloader'].dataset
        assert (dataset.data_root, dataset.ann_file, dataset.data_prefix.img) == ('mine', file, 'images/')
        assert dataset.metainfo.classes == ('x', 'y', 'z')
        if split != 'train':
            assert config[f'{split}_evaluator'].ann_file == 'mine/b.json'
            assert config[f'{split}_cfg'].num_widths == 4 and 'widths' not in config[f'{split}_cfg']
    heads = [name for name in config.model.roi_head if name in ('bbox_head', 'mask_head')]
    assert heads == ['bbox_head', 'mask_head'][: 1 + (detector == 'mask')]
    assert all(config.model.roi_head[name].num_classes == 3 for name in heads)
    assert config.model.backbone.init_cfg is None
    assert config.model.backbone.widths == (1.0, 0.75, 0.7) and 'widths' not in find_hook(config)
    assert config.train_dataloader.batch_size == config.auto_scale_lr.base_batch_size == 3
    assert config.optim_wrapper.optimizer.lr == 0.5
    assert config.train_cfg.max_epochs == config.param_scheduler[1].end == 7
    assert config.train_cfg.val_interval == 2
    assert config.default_hooks.checkpoint.save_best == 'auto'
    assert config.model.test_cfg.rcnn.max_per_img == 300
    for split in ('train', 'val', 'test'):
        sizes = [step.scale for step in config[f'{split}_dataloader'].dataset.pipeline if step.type == 'Resize']
        assert sizes == [(640, 640)]


def test_widths_of_a_base_in_scope_detector(tmp_path):
    config = Config.fromfile(edited(tmp_path, 'mutual_mask_rcnn_r50_detector.py', widths=(1.0, 0.5)) + '.py')
    assert config.model.widths == config.model.backbone.widths == (1.0, 0.5)


def test_boxes_alone_from_a_checkpoint_with_masks(config_for, other_data, start, tmp_path):
    """One line switches masks off, on files that have none; all other weights come along."""
    for name in ('train', 'val'):
        path = other_data / 'annotations' / f'{name}.json'
        content = json.loads(path.read_text())
        for annotation in content['annotations']:
            annotation.pop('segmentation')
        (other_data / 'annotations' / f'boxes_{name}.json').write_text(json.dumps(content))
    files = {name: dict(ann_file=f'annotations/boxes_{name}.json', data_prefix=dict(img=f'{name}/'))
             for name in ('train', 'val')}  # fmt: skip
    config = config_for(masks=False, **files)
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = f'{other_data}/annotations/boxes_val.json'
    assert config.val_evaluator.metric == 'bbox'
    config.train_cfg.val_interval = 1
    runner = run_training(config)
    assert not runner.model.with_mask
    assert all('coco/segm_mAP' not in metrics for metrics in runner.val_loop.results.values())
    before, after = torch.load(start)['state_dict'], runner.model.state_dict()
    assert {name for name in before if name not in after} == {name for name in before if 'mask_head' in name}
    loaded = before['backbone.bn1.running_mean_at_0_5']
    assert torch.equal(loaded, after['backbone.bn1.running_mean_at_0_5'])


def test_classes_that_the_files_do_not_have_are_named(config_for):
    config = config_for()
    check_data(config)
    config.train_dataloader.dataset.metainfo.classes = ('dotted square', 'dotted circle')
    with pytest.raises(
        ValueError, match=r"categories are \['dotted square', 'dotted star'\].*also has \['dotted circle'\]"
    ):
        check_data(config)


def test_what_comes_along_is_all_but_the_classes(config_for, start):
    runner = build_runner(without_validation(config_for()))
    runner.load_or_resume()
    theirs = torch.load(start)['state_dict']
    ours = runner.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == CLASS_LAYERS


def test_fine_tuned_with_frozen_statistics_and_evaluated(config_for, start):
    config = config_for()
    config.train_cfg.val_interval = 1
    runner = run_training(config)
    before, after = torch.load(start)['state_dict'], torch.load(f'{config.work_dir}/epoch_1.pth')
    assert tuple(after['meta']['dataset_meta']['classes']) == CLASSES
    for name, value in after['state_dict'].items():
        if name not in CLASS_LAYERS:
            assert torch.equal(value, before[name]) == ('running' in name or 'tracked' in name), name
    assert [subnet.width for subnet in runner.val_loop.results] == [1.0, 0.75, 0.5, 0.25]
    for metrics in runner.val_loop.results.values():
        assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert len(runner.val_dataloader.dataset.metainfo['classes']) == 2


def test_batch_statistics_are_calibrated(config_for):
    hooks = {flag: Config.fromfile(config_for(norm_eval=flag).filename).custom_hooks for flag in (True, False)}
    assert [hook.type for hook in hooks[False]] == [*(hook.type for hook in hooks[True]), 'BNCalibrationHook']


def test_a_range_of_the_widths(config_for, start):
    """Only they are trained and evaluated; calibration keeps up those of the other widths in the checkpoint too."""
    config = config_for(widths=(1.0, 0.75), norm_eval=False)
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=2))
    config.train_cfg.val_interval = 1
    runner = run_training(config)
    assert [subnet.width for subnet in runner.val_loop.results] == [1.0, 0.75]
    logged = {name.split('/')[1] for name in runner.message_hub.log_scalars if name.startswith('train/w')}
    assert {'w0.75'} <= logged <= {'w1', 'w0.75'}
    norms = [layer for layer in runner.model.modules() if isinstance(layer, SlimBatchNorm2d)]
    before = torch.load(start)['state_dict']
    assert {norm.widths for norm in norms} == {(1.0, 0.75, 0.5, 0.25)}
    first = runner.model.backbone.bn1
    assert not torch.equal(first.running_mean_at_0_25, before['backbone.bn1.running_mean_at_0_25'])
