"""Classifiers: the configs, digits, training, top-1 over the grid, and a detector that starts from them."""

import copy
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

import mmmutual
from mmmutual.classification import DigitsDataset
from mmmutual.engine import Subnet
from mmmutual.evaluation import count_multiply_adds, subnet_rows
from mmmutual.layers import SlimBatchNorm2d, set_width, use_width
from tests.support.tiny import build_runner, draw_tiny, run_training, tiny_config

ROOT = Path(__file__).parents[3]
FOLDER = f'{ROOT}/configs/pretrain'
NAMES = sorted(name[:-3] for name in os.listdir(FOLDER) if name.endswith('.py'))
NETWORKS = ('resnet50', 'mobilenet_v1', 'mobilenet_v2', 'vgg16')
KEPT = ('running_mean', 'running_var')


@pytest.fixture(autouse=True)
def _scope(request):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def load(name: str) -> Config:
    return Config.fromfile(f'{FOLDER}/{name}.py')


def tiny_digits(work_dir, **options) -> Config:
    """Digits for a few iterations, without logs."""
    config = load('mutual_resnet18_digits')
    config.work_dir, config.log_level = str(work_dir), 'ERROR'
    config.visualizer.update(vis_backends=[])
    config.train_dataloader.dataset.indices = 256
    config.val_dataloader.dataset.indices = config.test_dataloader.dataset.indices = 128
    config.train_cfg.update(max_epochs=1, val_interval=100)
    config.param_scheduler = None
    config.merge_from_dict(options)
    return config


def test_the_promised_configs_are_there():
    promised = {f'{method}_{network}' for method in ('mutual', 'us_net', 'independent') for network in NETWORKS}
    assert promised | {'boosting_resnet50', 'mutual_resnet18_digits'} == set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_builds_and_predicts_at_each_width(name):
    config = load(name)
    config.model.backbone.pop('init_cfg', None)
    model = MODELS.build(config.model).eval()
    for hook in config.custom_hooks:
        HOOKS.build(hook)
    for loader in (config.train_dataloader, config.test_dataloader):
        for transform in loader.dataset.pipeline:
            TRANSFORMS.build(transform)
    for norm in model.modules():
        if isinstance(norm, SlimBatchNorm2d):
            for width in norm.widths:
                mean, var, _ = norm.statistics(width)
                norm.set_statistics(width, mean, var)
    classes = config.model.head.num_classes
    for width in config.test_cfg.widths:
        set_width(model, width)
        with torch.no_grad():
            assert model(torch.rand(2, 3, 64, 64)).shape == (2, classes)
    assert count_multiply_adds(model, (64, 64))['head'] > 0


@pytest.mark.parametrize('network', NETWORKS)
def test_an_independent_network_is_the_sub_network(network, monkeypatch):
    """It has as many multiply-adds, and nothing else is trained with it."""
    monkeypatch.setenv('WIDTH', '0.75')
    config = load(f'independent_{network}')
    assert config.work_dir.endswith(f'{network}_w0.75')
    independent, mutual = (MODELS.build(each.model) for each in (config, load(f'mutual_{network}')))
    set_width(independent, config.test_cfg.widths[0])
    set_width(mutual, 0.75)
    assert count_multiply_adds(independent, (224, 224)) == count_multiply_adds(mutual, (224, 224))
    hooks = {hook.type: hook for hook in config.custom_hooks}
    if network == 'vgg16':
        assert hooks['MutualLearningHook'].widths == (0.75,) and hooks['MutualLearningHook'].num_subnets == 1
    else:
        assert set(hooks) == {'IterationSeedHook'}
        assert all(norm.widths == (1.0,) for norm in independent.modules() if isinstance(norm, SlimBatchNorm2d))


def test_lighting_noise_does_not_wrap_around():
    config = load('mutual_resnet50').train_dataloader.dataset.pipeline[3]
    lighting = TRANSFORMS.build(config)
    for seed in range(20):
        np.random.seed(seed)
        image = np.uint8([[[0, 0, 0], [255, 255, 255]]])
        noisy = lighting(dict(img=image))['img']
        assert noisy.dtype == np.float32
        assert 0 < np.abs(noisy - image).max() < 30
        np.testing.assert_allclose(noisy[0, 0] - image[0, 0], noisy[0, 1] - image[0, 1], atol=1e-4)


def test_published_multiply_adds_of_resnet50():
    """Slimmable Neural Networks, arXiv 1812.08928: 4.1 G, 2.3 G, 1.1 G, 278 M, the linear layer included."""
    model = MODELS.build(load('mutual_resnet50').model)
    counts = []
    for width in (1.0, 0.75, 0.5, 0.25):
        with use_width(model, width):
            counts.append(count_multiply_adds(model, (224, 224))['total'] / 1e9)
    assert [f'{count:.1f} G' for count in counts[:3]] == ['4.1 G', '2.3 G', '1.1 G']
    assert f'{counts[3] * 1e3:.0f} M' == '278 M'


def test_mobilenets_have_the_authors_activation():
    """ReLU6, as their models/mobilenet_v1.py and v2 and as the published weights need it."""
    for network in ('mobilenet_v1', 'mobilenet_v2'):
        for method in ('mutual', 'independent'):
            model = MODELS.build(load(f'{method}_{network}').model)
            assert any(isinstance(layer, nn.ReLU6) for layer in model.modules())
            assert not any(type(layer) is nn.ReLU for layer in model.modules())


def test_training_images_have_the_channels_of_test_images():
    config = load('mutual_resnet50')
    blue = np.zeros((300, 280, 3), np.uint8)
    blue[..., 0] = 255  # OpenCV's order, in which images are loaded
    preprocessor = MODELS.build(config.model.data_preprocessor)
    for loader in (config.train_dataloader, config.test_dataloader):
        data = dict(img=blue, img_shape=blue.shape[:2], ori_shape=blue.shape[:2], gt_label=0)
        for transform in loader.dataset.pipeline[1:]:
            data = TRANSFORMS.build(transform)(data)
        batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
        image = preprocessor(batch, False)['inputs']
        assert image.shape == (1, 3, 224, 224)
        assert image.mean((0, 2, 3)).argmax() == 2, "blue is the last channel of the network's input"


@pytest.mark.parametrize(
    ('network', 'epochs', 'rate', 'batch', 'narrowest', 'smallest_crop'),
    [
        ('resnet50', 120, 0.2, 512, 0.25, 0.08),
        ('mobilenet_v1', 250, 0.5, 1024, 0.25, 0.25),
        ('mobilenet_v2', 250, 0.5, 1024, 0.7, 0.25),
    ],
)
def test_the_authors_settings(network, epochs, rate, batch, narrowest, smallest_crop):
    """As in apps/*.yml of github taoyang1122/MutualNet."""
    config = load(f'mutual_{network}')
    hook = config.custom_hooks[1]
    assert (config.train_cfg.max_epochs, config.param_scheduler.end) == (epochs, epochs)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (rate, 0.9, True, 1e-4)
    assert config.auto_scale_lr.base_batch_size == 8 * config.train_dataloader.batch_size == batch
    assert (max(hook.widths), min(hook.widths), hook.num_subnets) == (1.0, narrowest, 4)
    assert [round(224 * scale) for scale in hook.scales] == [224, 192, 160, 128]
    assert config.train_dataloader.dataset.pipeline[1].crop_ratio_range == (smallest_crop, 1.0)
    us_net = load(f'us_net_{network}')
    assert us_net.custom_hooks[1].scales == (1.0,)
    us_net.custom_hooks[1].scales = hook.scales
    assert us_net.custom_hooks == config.custom_hooks


def test_boosting_is_trained_near_full_width_and_evaluated_at_it():
    config = load('boosting_resnet50')
    assert (max(config.custom_hooks[1].widths), min(config.custom_hooks[1].widths)) == (1.0, 0.9)
    assert config.test_cfg.widths == config.val_cfg.widths == (1.0,) == config.test_cfg.scales


def test_weight_decay_is_for_plain_convolutions_and_the_linear_layer_alone(tmp_path):
    config = load('mutual_mobilenet_v1')
    config.work_dir, config.log_level = str(tmp_path), 'ERROR'
    config.train_dataloader = config.train_cfg = config.val_dataloader = config.val_cfg = config.val_evaluator = None
    wrapper, config.optim_wrapper, config.param_scheduler = config.optim_wrapper, None, None
    config.test_dataloader = config.test_cfg = config.test_evaluator = None
    runner = build_runner(config)
    optimizer = runner.build_optim_wrapper(wrapper).optimizer
    decays = {id(group['params'][0]): group['weight_decay'] for group in optimizer.param_groups}
    for name, parameter in runner.model.named_parameters():
        shape = parameter.shape
        plain = (len(shape) == 4 and shape[1] != 1) or len(shape) == 2  # the authors' rule
        assert decays[id(parameter)] == (1e-4 if plain else 0), name


def test_digits_are_split_once_and_for_all():
    train, test = (DigitsDataset(split, size=8) for split in ('train', 'test'))
    assert (len(train), len(test)) == (1201, 596)
    assert [train[index]['gt_label'] for index in range(5)] == [0, 1, 2, 3, 4]
    images = {data['img'].tobytes() for split in (train, test) for data in map(split.__getitem__, range(len(split)))}
    assert len(images) == 1797, 'no image is in both'
    counts = np.bincount([test[index]['gt_label'] for index in range(len(test))])
    assert counts.min() >= 57 and counts.max() <= 61
    image = DigitsDataset('train')[0]['img']
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and image.max() > 200


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (dict(split='val'), r"split must be one of \('train', 'test'\), but got 'val'"),
        (dict(split='test', size=4), 'size must be a whole number of at least 8 pixels, but got 4'),
    ],
)
def test_wrong_digits(arguments, text):
    with pytest.raises(ValueError, match=text):
        DigitsDataset(**arguments)


def test_the_test_loop_calibrates_for_each_scale_and_restores(tmp_path):
    config = tiny_digits(tmp_path)
    config.train_dataloader.dataset.pipeline = config.test_dataloader.dataset.pipeline  # the same images again
    runner = run_training(config)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    metrics = runner.test()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=runner.seed)
    plain = dict(runner.cfg.test_cfg, calibration_batches=0, report=False)
    for scale in (1.0, 0.5):
        runner.model.load_state_dict(before)
        mmmutual.calibrate(runner.model, islice(loader, 19), None, (scale,))
        loop = runner.build_test_loop(dict(plain, scales=(scale,)))
        loop.run()
        for width in (1.0, 0.25):
            prefix = '' if (width, scale) == (1.0, 1.0) else f'{Subnet(width, scale)}/'
            assert loop.results[Subnet(width, scale)]['accuracy/top1'] == metrics[f'{prefix}accuracy/top1']
    assert list(subnet_rows(runner.test_loop)[0]) == ['width', 'scale', 'multiply_adds', 'top-1 (%)']


@pytest.mark.parametrize(
    ('value', 'error', 'text'),
    [
        (1.5, TypeError, 'calibration_batches must be a whole number, but got 1.5'),
        (-1, ValueError, 'calibration_batches must be 0 or more, but got -1'),
    ],
)
def test_wrong_numbers_of_batches(value, error, text, tmp_path):
    runner = build_runner(tiny_digits(tmp_path))
    with pytest.raises(error, match=text):
        runner.build_test_loop(dict(runner.cfg.test_cfg, calibration_batches=value))


def test_an_independent_network_is_evaluated_at_each_scale(tmp_path):
    """With statistics of each, as the mutual network's."""
    config = tiny_digits(tmp_path)
    backbone = load('independent_resnet50').model.backbone
    config.model.backbone.update(widths=backbone.widths, base_channels=8)
    config.model.head.in_channels = 64
    config.custom_hooks = load('independent_resnet50').custom_hooks
    config.val_cfg.widths = config.test_cfg.widths = load('independent_resnet50').test_cfg.widths
    metrics = run_training(config).test()
    assert {name for name in metrics if 'top1' in name} == {
        'accuracy/top1', 'w1_s0.75/accuracy/top1', 'w1_s0.5/accuracy/top1'
    }  # fmt: skip


def test_the_tools_take_a_classifier(tmp_path):
    config = tiny_digits(tmp_path / 'work', log_level='INFO')
    config.dump(tmp_path / 'config.py')

    def tool(name, *arguments):
        command = [sys.executable, f'{ROOT}/tools/{name}', *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    result = tool('train.py', 'config.py', '--cfg-options', 'default_hooks.checkpoint.interval=1')
    assert result.returncode == 0, result.stderr
    shown = ('--show-dir', 'shown', '--out', 'out.pkl')
    result = tool('test.py', 'config.py', 'work/epoch_1.pth', '--widths', 1.0, 0.25, '--scales', 1.0, 0.5, *shown)
    assert result.returncode == 0, result.stderr
    assert '| width | scale | multiply-adds | top-1 (%) |' in result.stdout + result.stderr
    rows = json.loads(next((tmp_path / 'work').rglob('subnets.json')).read_text())
    assert [(row['width'], row['scale']) for row in rows] == [(1.0, 1.0), (0.25, 1.0), (1.0, 0.5), (0.25, 0.5)]
    assert list((tmp_path / 'shown').rglob('*.png')) and (tmp_path / 'out_w0.25_s0.5.pkl').is_file()
    result = tool('misc/calibrate.py', 'config.py', 'work/epoch_1.pth', '--widths', 0.6, '-o', 'calibrated.pth')
    assert result.returncode == 0, result.stderr
    assert 'calibrated.pth: widths 1, 0.75, 0.6, 0.5, 0.25' in result.stdout
    grid = ('--widths', 1.0, 0.25, '--scales', 0.5, '--repeats', 1)
    result = tool('analysis_tools/query_table.py', 'config.py', 'work/epoch_1.pth', *grid, '-o', 'table.json')
    assert result.returncode == 0, result.stderr
    cells = json.loads((tmp_path / 'table.json').read_text())['cells']
    assert [cell['metrics']['top-1 (%)'] for cell in cells] == [row['top-1 (%)'] for row in rows[2:]]
    for name, out, what in (
        ('model_converters/export_subnet.py', ('--width', 0.5), 'the export'),
        ('analysis_tools/show_widths.py', (), 'a picture of detections'),
    ):
        result = tool(name, 'config.py', 'work/epoch_1.pth', *out)
        assert result.returncode == 1
        assert result.stderr.endswith(
            f'error: {what} needs a detector, but config.py is the config of ImageClassifier\n'
        )


def test_a_detector_starts_from_the_pretrained_backbone_and_its_narrow_widths_profit(tmp_path):
    config = tiny_digits(tmp_path / 'digits')
    config.train_dataloader.dataset.pop('indices')
    config.train_cfg.max_epochs = 8
    config.param_scheduler = load('mutual_resnet18_digits').param_scheduler
    config.param_scheduler.end = 8
    config.default_hooks.checkpoint.interval = 8
    pretrained = run_training(config).model.state_dict()
    data = draw_tiny(tmp_path / 'shapes', num_train=16)
    losses = {}
    with DefaultScope.overwrite_default_scope('mmdet'):
        for start in ('scratch', 'pretrained'):
            detector = tiny_config(data, tmp_path / start)
            detector.train_cfg.max_epochs = 8
            if start == 'pretrained':
                checkpoint = str(tmp_path / 'digits' / 'epoch_8.pth')
                detector.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
                arrived = MODELS.build(detector.model)
                arrived.init_weights()
                for name, value in arrived.backbone.state_dict().items():
                    assert torch.equal(value, pretrained[f'backbone.{name}']), name
                assert all(f'{kind}_at_0_25' in arrived.backbone.bn1.state_dict() for kind in KEPT)
            detector.val_cfg.widths = (1.0, 0.75, 0.5, 0.25)
            runner = run_training(copy.deepcopy(detector))
            scalars = runner.message_hub.log_scalars
            losses[start] = np.mean([scalars[f'train/w{width:g}/loss'].data[0] for width in (0.75, 0.5, 0.25)])
    metrics = runner.val_loop.run()
    assert {f'{Subnet(width)}/coco/bbox_mAP' for width in (0.75, 0.5, 0.25)} <= set(metrics)
    assert losses['pretrained'] < losses['scratch'] - 0.05, losses  # 0.19, 0.19 and 0.11 less with the seeds 0, 1, 3
