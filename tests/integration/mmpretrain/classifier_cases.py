"""Classifiers: the configs, digits, training, top-1 over the grid, and a detector that starts from them."""

import os

import numpy as np
import pytest
import torch
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

from mmmutual.classification import DigitsDataset
from mmmutual.evaluation import count_multiply_adds
from mmmutual.layers import SlimBatchNorm2d, set_width, use_width, width_grid
from tests.support.classifiers import FOLDER, load
from tests.support.tiny import build_runner, find_hook

NAMES = sorted(name[:-3] for name in os.listdir(FOLDER) if name.endswith('.py'))
NETWORKS = ('resnet50', 'mobilenet_v1', 'mobilenet_v2', 'vgg16')


@pytest.fixture(autouse=True)
def _scope(request):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


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
    for width in width_grid(model):
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
    set_width(independent, width_grid(independent)[0])
    set_width(mutual, 0.75)
    assert count_multiply_adds(independent, (224, 224)) == count_multiply_adds(mutual, (224, 224))
    hooks = {hook.type: hook for hook in config.custom_hooks}
    if network == 'vgg16':
        assert width_grid(independent) == (0.75,) and hooks['MutualLearningHook'].num_subnets == 1
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
    hook, widths = find_hook(config), config.model.backbone.widths
    assert (config.train_cfg.max_epochs, config.param_scheduler.end) == (epochs, epochs)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (rate, 0.9, True, 1e-4)
    assert config.auto_scale_lr.base_batch_size == 8 * config.train_dataloader.batch_size == batch
    assert (max(widths), min(widths), hook.num_subnets) == (1.0, narrowest, 4)
    assert [round(224 * scale) for scale in hook.scales] == [224, 192, 160, 128]
    assert config.train_dataloader.dataset.pipeline[1].crop_ratio_range == (smallest_crop, 1.0)
    us_net = load(f'us_net_{network}')
    assert find_hook(us_net).scales == (1.0,)
    find_hook(us_net).scales = hook.scales
    assert us_net.custom_hooks == config.custom_hooks


def test_boosting_is_trained_near_full_width_and_evaluated_at_it():
    config = load('boosting_resnet50')
    assert (max(config.model.backbone.widths), min(config.model.backbone.widths)) == (1.0, 0.9)
    assert config.test_cfg.num_widths == config.val_cfg.num_widths == 1 and config.test_cfg.scales == (1.0,)


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
