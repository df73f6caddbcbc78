"""Weights in the key layout of MutualNet and slimmable_networks, converted and run, against a reference network."""

import re
import runpy
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

import mmmutual
from mmmutual.checkpoint import convert_published, read_checkpoint
from mmmutual.layers import SlimBatchNorm2d, SwitchableBatchNorm2d
from tests.support.published_reference import PublishedReference

pytestmark = pytest.mark.integration  # builds whole published networks

QUARTERS = (0.25, 0.5, 0.75, 1.0)
FILES = {  # the widths that the repositories' apps/*.yml list
    's_resnet50': ('resnet50', QUARTERS, True),
    's_mobilenet_v1': ('mobilenet_v1', QUARTERS, True),
    's_mobilenet_v2': ('mobilenet_v2', (0.35, 0.5, 0.75, 1.0), True),
    'us_mobilenet_v1': ('mobilenet_v1', tuple(round(0.025 * number, 3) for number in range(10, 41)), False),
    'us_mobilenet_v2': ('mobilenet_v2', tuple(round(0.025 * number, 3) for number in range(14, 41)), False),
    'mutualnet_resnet50': ('resnet50', (0.9, 1.0), False),
    'mutualnet_mobilenet_v1': ('mobilenet_v1', (0.25, 1.0), False),
    'mutualnet_mobilenet_v2': ('mobilenet_v2', (0.7, 0.9, 1.0), False),
}
LAST = dict(resnet50=(3,), mobilenet_v1=(5,), mobilenet_v2=(7,))


def save(path, state, **others):
    """As the repositories save: the state of a DataParallel, in the file format of torch 1.0."""
    model = {f'module.{key}': value for key, value in state.items()}
    torch.save(dict(model=model, **others), path, _use_new_zipfile_serialization=False)
    return path


def reset(reference, *widths):
    """The reset statistics of a width while MutualNet recomputes those of another."""
    for index in map(reference.lists.index, widths):
        for key, value in reference.state.items():
            if f'.bn.{index}.running' in key:
                value.fill_(float(key.endswith('var')))


def built(src, **options):
    """The backbone with the converted weights, and all of them."""
    weights = convert_published(src)
    backbone = MODELS.build(dict(weights.backbone, **options))
    state = weights.state_dict.items()
    backbone.load_state_dict({key[9:]: value for key, value in state if key.startswith('backbone.')}, strict=True)
    backbone.eval()  # mmdet's do not return themselves
    return backbone, weights


def features(backbone, x, width):
    """The last feature map."""
    with mmmutual.use_width(backbone, width), torch.no_grad():
        return backbone(x)[-1]


def assert_close(ours, expected):
    """Equal up to rounding, on the scale of the largest value."""
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize('name', FILES)
def test_converted_weights_compute_what_the_published_network_does(name, tmp_path):
    kind, lists, switchable = FILES[name]
    reference = PublishedReference(kind, lists, switchable)
    backbone, weights = built(save(tmp_path / 'published.pt', reference.state), out_indices=LAST[kind])
    x = torch.randn(2, 3, 64, 64)
    head = [weights.state_dict[f'head.fc.{key}'] for key in ('weight', 'bias')]
    for width in weights.ready:
        out = features(backbone, x, width)
        expected, logits = reference(x, width)
        assert_close(out, expected)
        assert_close(F.linear(out.mean((2, 3)), head[0][:, : out.size(1)], head[1]), logits)
    assert weights.ready == ((1.0,) if name == 'mutualnet_resnet50' else tuple(sorted(lists, reverse=True)))
    norms = {type(layer) for layer in backbone.modules() if isinstance(layer, SlimBatchNorm2d)}
    assert norms == {SwitchableBatchNorm2d if switchable else SlimBatchNorm2d}


@pytest.mark.parametrize(
    ('kind', 'widths'),
    [('resnet50', (0.875, *QUARTERS)), ('mobilenet_v1', (0.25, 0.35, 0.6)), ('mobilenet_v2', (0.35, 0.7, 0.85))],
)
def test_widths_without_statistics_run_on_the_same_channels(kind, widths, tmp_path):
    """Normalised by the batch, as in training and in calibration."""
    reference = PublishedReference(kind, (0.9, 1.0))
    backbone, _ = built(save(tmp_path / 'published.pt', reference.state), out_indices=LAST[kind])
    for layer in backbone.modules():
        if isinstance(layer, SlimBatchNorm2d):
            for width in widths:
                layer.add_width(width)
    backbone.train()
    for layer in backbone.modules():
        layer.training = True  # norm_eval is mmdet's default
    x = torch.randn(4, 3, 64, 64)
    for width in widths:
        assert_close(features(backbone, x, width), reference(x, width, training=True)[0])


def test_the_published_resnet_has_other_channels_inside_at_other_widths(tmp_path):
    """58 of 64 at width 0.9, a quarter of a multiple of 8, where mmmutual runs 56."""
    reference = PublishedReference('resnet50', (0.9, 1.0))
    assert reference.state['features.1.body.1.bn.0.running_mean'].shape == (58,)
    backbone, weights = built(save(tmp_path / 'published.pt', reference.state))
    assert mmmutual.layers.active_channels(64, 0.9) == 56
    assert (backbone.widths, weights.left_out) == ((1.0,), {0.9: 'other channels'})


def test_statistics_that_mutualnet_has_reset_are_left_out(tmp_path):
    reference = PublishedReference('mobilenet_v1', (0.25, 1.0))
    reset(reference, 1.0)
    backbone, weights = built(save(tmp_path / 'published.pt', reference.state), out_indices=(5,))
    assert (weights.ready, weights.left_out, weights.backbone['widths']) == ((0.25,), {1.0: 'reset'}, (1.0, 0.25))
    x = torch.randn(2, 3, 32, 32)
    assert_close(features(backbone, x, 0.25), reference(x, 0.25)[0])
    reset(reference, 0.25)
    backbone, weights = built(save(tmp_path / 'published.pt', reference.state))
    assert weights.ready == ()
    with pytest.raises(ValueError, match='width 0.25 has no batch-norm statistics yet'):
        features(backbone, x, 0.25)


def test_order_of_the_lists_and_names_without_prefix_or_counters(tmp_path):
    """Files of user trainings list the range first; PyTorch 0.4 had no counters."""
    reference = PublishedReference('mobilenet_v2', (0.35, 1.0, 0.5))
    state = {key: value for key, value in reference.state.items() if 'num_batches' not in key}
    torch.save(state, tmp_path / 'published.pt')
    backbone, weights = built(tmp_path / 'published.pt', out_indices=(7,))
    assert weights.ready == (1.0, 0.5, 0.35)
    x = torch.randn(2, 3, 32, 32)
    for width in weights.ready:
        assert_close(features(backbone, x, width), reference(x, width)[0])


def run(root, monkeypatch, src, dst):
    """The output of the tool, or its error."""
    path = root / 'tools' / 'model_converters' / 'slimmable_to_mmmutual.py'
    monkeypatch.setattr(sys, 'argv', [path.name, str(src), str(dst)])
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as error:
            assert error.code == 1 and not dst.exists()
    return out.getvalue() if dst.exists() else err.getvalue()


def test_the_tool_writes_a_checkpoint_that_a_config_starts_from(root, monkeypatch, tmp_path):
    reference = PublishedReference('resnet50', QUARTERS, switchable=True)
    src, dst = save(tmp_path / 'published.pt', reference.state), tmp_path / 'new' / 'converted.pth'
    output = run(root, monkeypatch, src, dst)
    assert f'{dst}: ResNet-50, ' in output
    assert 'affine parameters of batch norms: own for each width\n' in output
    assert 'statistics of batch norms: widths 1, 0.75, 0.5, 0.25\n' in output
    assert 'calibrate' not in output and 'left out' not in output
    config = eval(re.search(r'config: backbone=(dict.*)', output)[1])
    assert config['init_cfg'] == dict(type='Pretrained', checkpoint=str(dst), prefix='backbone.')
    backbone = MODELS.build(config)
    backbone.init_weights()
    backbone.eval()
    x = torch.randn(2, 3, 32, 32)
    assert_close(features(backbone, x, 0.25), reference(x, 0.25)[0])
    state = read_checkpoint(dst)['state_dict']
    assert f'{len(state)} tensors' in output
    assert torch.equal(state['head.fc.weight'], reference.state['classifier.0.weight'])
    assert {key.split('.')[0] for key in state} == {'backbone', 'head'}


def test_the_tool_says_what_is_left_out(root, monkeypatch, tmp_path):
    reference = PublishedReference('resnet50', (0.9, 1.0))
    reset(reference, 1.0)
    output = run(root, monkeypatch, save(tmp_path / 'published.pt', reference.state), tmp_path / 'converted.pth')
    assert 'affine parameters of batch norms: shared by all widths\n' in output
    assert 'statistics of batch norms: widths none\n' in output
    assert 'left out: statistics of widths 1: the file has reset them\n' in output
    assert 'left out: statistics of widths 0.9: the published network rounds to other numbers of channels' in output
    assert f'python tools/misc/calibrate.py CLASSIFIER_CONFIG {tmp_path / "converted.pth"} --widths' in output
    assert 'width 1.0 has no statistics either' in output


def test_the_tool_refuses_in_one_sentence(root, monkeypatch, tmp_path):
    text = run(root, monkeypatch, tmp_path / 'none.pt', tmp_path / 'converted.pth')
    assert text.strip().endswith(f'error: there is no checkpoint file {tmp_path / "none.pt"} on this machine')


@pytest.fixture(scope='module')
def whole():
    """The tensors of a whole file."""
    torch.manual_seed(0)
    return PublishedReference('mobilenet_v1', (0.5, 1.0), switchable=True).state


def without(state, *parts):
    """A file whose tensors of such names are lost."""
    return {key: value for key, value in state.items() if not any(part in key for part in parts)}


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (
            lambda state: without(state, 'features.7.'),
            r'not a complete MobileNetV1 of MutualNet or slimmable_networks: 18 missing, for example '
            r'features\.7\.body\.0\.weight, features\.7\.body\.1\.bn\.0\.weight, features\.7\.body\.1\.bn\.0\.bias$',
        ),
        (
            lambda state: without(state, 'features.2.body.1.bn.1.running_var'),
            r'1 missing.*2\.body\.1\.bn\.1\.running_var$',
        ),
        (lambda state: without(state, 'classifier.0.bias'), r'1 missing, for example classifier\.0\.bias$'),
        (lambda state: {**state, 'features.14.x': torch.ones(1)}, r'1 unexpected, for example features\.14\.x$'),
        (
            lambda state: {**state, 'features.0.0.weight': torch.ones(32, 3, 5, 5), 'y': torch.ones(1)},
            r'1 unexpected, for example y; 1 of another shape, for example '
            r'features\.0\.0\.weight \(32, 3, 5, 5\) instead of \(32, 3, 3, 3\)$',
        ),
        (
            lambda state: {**state, 'features.0.1.bn.0.running_mean': torch.ones(24)},
            r'features\.0\.1\.bn\.0\.running_mean \(24,\) instead of \(16,\)',
        ),
        (
            lambda state: without(state, '.bn.1.'),
            r'batch-norm lists for the widths \[0\.5\], but none for 1\.0: a part of it is missing',
        ),
        (
            lambda state: without(state, 'classifier.0.weight'),
            r'has no matrix classifier\.0\.weight, whose inputs identify the network: ResNet-50 \(2048\), MobileNetV1 '
            r'\(1024\), MobileNetV2 \(1280\)\. It is not a file of .* its first names are features\.0\.0\.weight, ',
        ),
        (
            lambda state: {**state, 'classifier.0.weight': torch.ones(5, 1640)},
            r'has a classifier of 1640 inputs\. The supported networks are ResNet-50 \(2048\)',
        ),
    ],
)
def test_a_wrong_or_partial_file_is_refused(change, text, whole, tmp_path):
    with pytest.raises(ValueError, match=text):
        convert_published(save(tmp_path / 'published.pt', change(whole)))


def test_resnet101_is_not_taken_for_resnet50(tmp_path):
    state = PublishedReference('resnet50', (1.0,)).state
    state['features.17.body.0.weight'] = torch.ones(1)
    with pytest.raises(
        ValueError, match='not a complete ResNet-50.* 1 unexpected, for example features.17.body.0.weight'
    ):
        convert_published(save(tmp_path / 'published.pt', state))


@pytest.mark.parametrize('content', [dict(model=dict(epoch=3)), [torch.ones(1)], dict(model=torch.ones(1))])
def test_a_file_without_weights(content, tmp_path):
    torch.save(content, tmp_path / 'published.pt')
    with pytest.raises(ValueError, match="has no weights: expected named tensors at the top level or under 'model'"):
        convert_published(tmp_path / 'published.pt')


class ScalarMeter:
    """As slimmable_networks' latest_checkpoint.pt holds some."""


def test_objects_are_refused(whole, tmp_path):
    src = save(tmp_path / 'latest_checkpoint.pt', whole, meters=({}, ScalarMeter()))
    with pytest.raises(ValueError, match='cannot be read: it is .* or has objects other than weights and numbers'):
        convert_published(src)


def test_an_archive_is_to_be_unpacked(whole, tmp_path):
    src = save(tmp_path / 'us_mobilenet_v1.pt', whole)
    with zipfile.ZipFile(tmp_path / 'us_mobilenet_v1.pt.zip', 'w') as archive:
        archive.write(src, src.name)
    with pytest.raises(ValueError, match=r"is an archive of \['us_mobilenet_v1.pt'\]: unpack it, and pass the file"):
        convert_published(tmp_path / 'us_mobilenet_v1.pt.zip')
