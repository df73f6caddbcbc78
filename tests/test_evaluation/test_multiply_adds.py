import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmmutual
from mmmutual import SlimmableResNet, count_multiply_adds
from mmmutual.evaluation import count_grid
from mmmutual.layers import SlimConv2d, SlimLinear
from tests.support.query_detectors import LAYERS, query_detector

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Classifier(nn.Module):
    """S-ResNet-50 as the papers count it."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            SlimmableResNetLast(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), SlimLinear(2048, 1000, slim_out=False)
        )


class SlimmableResNetLast(SlimmableResNet):
    def __init__(self):
        super().__init__(50, WIDTHS)

    def forward(self, x):
        return super().forward(x)[-1]


@pytest.mark.parametrize(('width', 'published'), [(1.0, '4.1 G'), (0.75, '2.3 G'), (0.5, '1.1 G'), (0.25, '278 M')])
@pytest.mark.integration
def test_published_counts_of_slimmable_resnet50(width, published):
    model = Classifier()
    mmmutual.set_width(model, width)
    count = count_multiply_adds(model, (224, 224))['total']
    assert (f'{count / 1e9:.1f} G' if count > 1e9 else f'{count / 1e6:.0f} M') == published


def test_hand_count():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(SlimConv2d(3, 16, 3, padding=1), nn.ConvTranspose2d(8, 4, 2, 2))
            mmmutual.set_width(self, 0.5)

    assert count_multiply_adds(One(), (10, 6)) == {
        'backbone': 60 * 3 * 8 * 9 + 60 * 8 * 4 * 4,
        'total': 60 * 3 * 8 * 9 + 60 * 8 * 4 * 4,
    }


@pytest.fixture(scope='module')
def detector(root):
    return MODELS.build(Config.fromfile(root / 'configs/mutual_mask_rcnn_r50.py').model)


def test_parts_of_mask_rcnn(detector):
    """About 49 G in the backbone and 130 G behind it, at 1000 x 600 pixels."""
    counts = count_multiply_adds(detector, (600, 1000))
    assert list(counts) == ['backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head', 'total']
    assert counts['total'] == sum(counts[part] for part in list(counts)[:-1])
    assert counts['backbone'] == pytest.approx(49.6e9, rel=0.01)
    assert counts['total'] - counts['backbone'] == pytest.approx(131e9, rel=0.01)
    rois = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 320)
    assert counts['bbox_head'] == rois


def test_counts_are_those_of_the_arithmetic(detector):
    image = torch.rand(1, 3, 64, 96)
    for width in (1.0, 0.5):
        with mmmutual.use_width(detector.train(), width), torch.no_grad(), FlopCounterMode(display=False) as counter:
            detector.neck(detector.backbone(image))
        with mmmutual.use_width(detector, width):
            counts = count_multiply_adds(detector, (64, 96))
        assert counts['backbone'] + counts['neck'] == counter.get_total_flops() // 2


def test_the_model_is_left_as_it_was(detector):
    state = {name: (value.data_ptr(), value.device) for name, value in detector.state_dict().items()}
    detector.train()
    grid = count_grid(detector, (1.0, 0.5), [(600, 1000), (300, 500)])
    assert {name: (value.data_ptr(), value.device) for name, value in detector.state_dict().items()} == state
    assert detector.training
    assert mmmutual.get_width(detector) == 1.0
    assert grid[1.0, (600, 1000)] > grid[0.5, (600, 1000)] > grid[0.5, (300, 500)]


@pytest.mark.integration
def test_a_whole_grid(detector):
    """Each of 28 sub-networks costs less than its wider and its larger neighbour."""
    widths, sizes = (1.0, 0.9, 0.8, 0.7, 0.5, 0.4, 0.25), [(600, 1000), (480, 800), (360, 600), (240, 400)]
    grid = count_grid(detector, widths, sizes)
    assert list(grid) == [(width, size) for width in widths for size in sizes]
    for wide, narrow in zip(widths, widths[1:]):
        assert all(grid[wide, size] > grid[narrow, size] for size in sizes)
    for large, small in zip(sizes, sizes[1:]):
        assert all(grid[width, large] > grid[width, small] for width in widths)


@pytest.mark.parametrize('size', [(600,), (600, -1), (600.0, 1000), (0, 3)])
def test_wrong_size(size, detector):
    with pytest.raises(ValueError, match='size must be height and width in pixels'):
        count_multiply_adds(detector, size)


def test_a_part_that_cannot_be_counted_is_named():
    class Sorting(nn.Module):
        def forward(self, x):
            return x[x > 0].item()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Sorting()

    with pytest.raises(ValueError, match=r'cannot count backbone \(Sorting\) of Model'):
        count_multiply_adds(Model(), (8, 8))


@pytest.mark.parametrize('kind', ['detr', 'dino', 'mask2former'])
def test_decoder_layers_that_are_left_out_do_not_count(kind):
    model, counts = query_detector(kind), []
    for number in (LAYERS, 2):
        with mmmutual.use_decoder_layers(model, number):
            counts.append(count_multiply_adds(model, (64, 96)))
    assert counts[0]['total'] > counts[1]['total'] and counts[0]['backbone'] == counts[1]['backbone']
