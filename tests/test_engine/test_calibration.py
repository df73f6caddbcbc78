import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.runner import Runner
from torch import nn

import mmmutual
from mmmutual.engine import BNCalibrationHook
from mmmutual.engine.rescale import rescale_batch
from mmmutual.layers import SlimBatchNorm2d
from tests.support.tiny import build_runner, tiny_config, without_validation


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    """A detector with random weights and its training batches."""
    config = without_validation(tiny_config(tiny_data, tmp_path_factory.mktemp('calibration')))
    config.model.backbone.zero_init_residual = False
    model = build_runner(config).model
    model.init_weights()
    torch.manual_seed(0)
    return model, list(Runner.build_dataloader(config.train_dataloader, seed=0))


@pytest.fixture
def model(setting):
    return copy.deepcopy(setting[0])


@pytest.fixture
def batches(setting):
    return setting[1]


def norms(model: nn.Module) -> dict[str, SlimBatchNorm2d]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, SlimBatchNorm2d)}


def inputs_of_norms(model, batches, width, scale=1.0) -> dict[str, torch.Tensor]:
    """The input of each norm at a width while all norms normalise by the batch, (C, all other dimensions)."""
    seen = {name: [] for name in norms(model)}
    twin = copy.deepcopy(model)
    for name, norm in norms(twin).items():
        norm.train()
        norm.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0].transpose(0, 1).flatten(1)))
    with torch.no_grad(), mmmutual.use_width(twin, width):
        for batch in batches:
            twin.extract_feat(
                rescale_batch(**twin.data_preprocessor(batch, False), scale=scale, pad_size_divisor=32)[0]
            )
    return {name: torch.cat(values, 1).double() for name, values in seen.items()}


@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_statistics_are_the_closed_form_over_the_same_images(scale, model, batches):
    mmmutual.calibrate(model, batches, widths=(1.0, 0.75, 0.25), scales=(scale,))
    for width in (1.0, 0.75, 0.25):
        for name, values in inputs_of_norms(model, batches, width, scale).items():
            mean, var, _ = norms(model)[name].statistics(width)
            torch.testing.assert_close(mean[: len(values)].double(), values.mean(1), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(var[: len(values)].double(), values.var(1), atol=1e-5, rtol=1e-4)
            assert (mean[len(values) :] == 0).all()


def test_batches_take_turns_in_the_scales(model, batches):
    mmmutual.calibrate(model, batches[:3], widths=(0.5,), scales=(1.0, 0.5))
    seen = [inputs_of_norms(model, [batch], 0.5, scale) for batch, scale in zip(batches, (1.0, 0.5, 1.0))]
    for name, norm in norms(model).items():
        values = torch.cat([inputs[name] for inputs in seen], 1)
        mean, var, _ = norm.statistics(0.5)
        torch.testing.assert_close(mean[: len(values)].double(), values.mean(1), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(var[: len(values)].double(), values.var(1), atol=1e-5, rtol=1e-4)


def test_many_widths_in_one_pass_over_the_data(model, batches):
    together, one_by_one = copy.deepcopy(model), copy.deepcopy(model)
    loaded = []
    mmmutual.calibrate(together, (loaded.append(i) or batch for i, batch in enumerate(batches)))
    assert loaded == list(range(len(batches)))
    for width in (1.0, 0.75, 0.5, 0.25):
        mmmutual.calibrate(one_by_one, batches, widths=(width,))
    for name, value in together.state_dict().items():
        assert torch.equal(value, one_by_one.state_dict()[name]), name


def test_nothing_else_changes(model, batches):
    before = copy.deepcopy(model.state_dict())
    mmmutual.set_width(model, 0.5)
    model.train()
    training = {name: layer.training for name, layer in model.named_modules()}
    mmmutual.calibrate(model, batches, widths=(0.25,))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.endswith('_at_0_25')}
    assert mmmutual.get_width(model) == 0.5
    assert {name: layer.training for name, layer in model.named_modules()} == training
    assert all(norm.pooled is None for norm in norms(model).values())


def test_an_error_loses_nothing(model, batches):
    mmmutual.calibrate(model, batches)
    before = copy.deepcopy(model.state_dict())

    def failing():
        yield batches[0]
        raise OSError('disk')

    with pytest.raises(OSError, match='disk'):
        mmmutual.calibrate(model, failing())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(norm.pooled is None for norm in norms(model).values())


def test_new_widths_join_the_grid(model, batches):
    with pytest.raises(ValueError, match='width 0.6 has no batch-norm statistics.*calibrate'):
        mmmutual.set_width(model, 0.6)
    mmmutual.calibrate(model, batches, widths=(0.6,))
    mmmutual.set_width(model.eval(), 0.6)
    model.extract_feat(torch.rand(1, 3, 64, 64))


def test_norms_in_heads_are_reached(tiny_data, tmp_path, batches):
    config = without_validation(tiny_config(tiny_data, tmp_path))
    norm_cfg = dict(type='SlimBN', widths=(1.0, 0.5))
    config.model.roi_head.mask_head.norm_cfg = norm_cfg
    model = build_runner(config).model
    mmmutual.calibrate(model, batches, widths=(0.5,))
    assert all(norm.is_ready(0.5) for norm in norms(model).values())


def test_errors(model):
    with pytest.raises(ValueError, match='cannot calibrate backbone.bn1: no batch reached it'):
        mmmutual.calibrate(model, [])
    with pytest.raises(ValueError, match='Linear has no slimmable batch norm'):
        mmmutual.calibrate(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match='widths must not repeat'):
        mmmutual.calibrate(model, [], widths=(0.5, 0.5))
    with pytest.raises(ValueError, match='num_batches must be at least 1, but got 0'):
        BNCalibrationHook(num_batches=0)
    with pytest.raises(TypeError, match="num_batches must be a whole number, but got '5'"):
        BNCalibrationHook(num_batches='5')


def test_norms_without_statistics_are_left_alone(model, batches):
    norm = model.backbone.bn1
    model.backbone.bn1 = SlimBatchNorm2d(norm.num_features, widths=norm.widths, track_running_stats=False)
    mmmutual.calibrate(model, batches[:1])
    assert model.backbone.layer1[0].bn1.is_ready(0.5)


def test_padding_is_that_of_the_data_preprocessor(model):
    model.data_preprocessor = MODELS.build(
        dict(type='DetDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3, pad_size_divisor=32, pad_value=100)
    )
    seen = []
    model.backbone.register_forward_pre_hook(lambda layer, args: seen.append(args[0].clone()))
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64)))
    batch = dict(inputs=[torch.full((3, 64, 64), 7, dtype=torch.uint8)], data_samples=[sample])
    mmmutual.calibrate(model, [batch], widths=(1.0,), scales=(0.75,))
    (images,) = seen
    assert images.shape[2:] == (64, 64)
    torch.testing.assert_close(images[..., :48, :48], torch.full((1, 3, 48, 48), 7.0))
    assert (images[..., 48:, :] == 100).all() and (images[..., 48:] == 100).all()


def test_the_last_image_may_be_as_small_as_the_deepest_stride(model, batches):
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64)))
    batch = dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)], data_samples=[sample])
    mmmutual.calibrate(model, [batch], widths=(1.0,), scales=(0.5,))
    assert int(model.backbone.bn1.num_batches_tracked) == 1
