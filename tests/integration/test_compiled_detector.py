"""torch.compile and torch.export of a detector's dense part: backbone, neck and head, without the choice of boxes."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import mmmutual
from tests.support.masked import share_statistics
from tests.support.small_detectors import stock_detector

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Dense(nn.Module):
    """The outputs of a one-stage detector before its boxes are chosen."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple:
        return self.detector.bbox_head(self.detector.extract_feat(images))


@pytest.fixture
def dense() -> Dense:
    config = stock_detector()
    detector = MODELS.build(
        dict(config, type='SlimmableDetector', detector=config['type'], widths=WIDTHS, scope='detector')
    ).eval()
    share_statistics(detector)
    return Dense(detector)


def test_each_width_is_one_graph_that_is_made_once(dense):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    fast = torch.compile(dense, backend=backend, dynamic=False, fullgraph=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for width in (*WIDTHS, *reversed(WIDTHS)):
            mmmutual.set_width(dense, width)
            torch.testing.assert_close(fast(images), dense(images))
    assert len(graphs) == len(WIDTHS)


def test_one_width_is_exported(dense):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), mmmutual.use_width(dense, 0.5):
        expected = dense(images)
        program = torch.export.export(dense, (images,))
    mmmutual.set_width(dense, 0.25)  # the program has a fixed width
    torch.testing.assert_close(program.module()(images), expected)
