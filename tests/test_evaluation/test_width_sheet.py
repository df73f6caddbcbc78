"""The picture of sub-networks: what it draws, and what it says where nothing is found."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from mmmutual.engine import Subnet
from mmmutual.evaluation.plotting import show_widths
from mmmutual.evaluation.plotting import width_sheet as show
from mmmutual.evaluation.plotting.picture_sheet import TILE, Sheet
from mmmutual.layers import SlimConv2d

META = dict(classes=('circle', 'square', 'star'), palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)])


class Detector(nn.Module):
    """Finds a square whose score is the width."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = SlimConv2d(3, 8, 1)

    def test_step(self, batch: dict) -> list[DetDataSample]:
        score = torch.tensor([self.layer.width])
        found = InstanceData(bboxes=torch.tensor([[2.0, 2, 30, 20]]), labels=torch.tensor([1]), scores=score)
        return [DetDataSample(pred_instances=found[: int(self.layer.width > 0.3)])]


@pytest.fixture
def sheets(monkeypatch) -> list[Sheet]:
    """The sheets that are saved, with their legends."""
    saved = []

    def save(self, path, legend):
        self.legend = legend
        saved.append(self)
        return path

    monkeypatch.setattr(Sheet, 'save', save)
    return saved


def batch(tmp_path, with_truth: bool = True) -> dict:
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.zeros((40, 64, 3), np.uint8))
    sample = DetDataSample(metainfo=dict(img_path=str(path)))
    if with_truth:
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[5.0, 5, 20, 20]]), labels=torch.tensor([0]))
    return dict(data_samples=[sample])


def test_images_are_padded_to_the_sides_that_the_model_needs(sheets, tmp_path, monkeypatch):
    fitted = []
    monkeypatch.setattr(show, 'fit_padding', fitted.append)
    model = Detector()
    show_widths(model, [batch(tmp_path)], (1.0,), tmp_path / 'x.png', META)
    assert fitted == [model]


def test_a_row_compares_the_widths_with_the_ground_truth(sheets, tmp_path):
    assert show_widths(Detector(), [batch(tmp_path)], (1.0, 0.5, 0.25), tmp_path / 'x.png', META) == tmp_path / 'x.png'
    ((titles, ((*row,),)),) = sheets[0]._blocks
    assert titles == ['ground truth', 'width 1', 'width 0.5', 'width 0.25']
    assert [picture.shape for picture, _ in row] == [(200, TILE, 3)] * 4
    truth, wide, half, narrow = (picture for picture, _ in row)
    assert truth[..., 0].any() and not truth[..., 1].any()  # red: a circle
    assert wide[..., 1].any() and not wide[:, TILE // 2 :, 0].any()  # green: a square
    assert not narrow[:100].any()
    assert sheets[0].legend == {'circle': (255, 0, 0), 'square': (0, 255, 0)}


def test_a_picture_without_detections_says_how_high_the_best_score_is(sheets, tmp_path):
    show_widths(Detector(), [batch(tmp_path)], (1.0, 0.5, 0.25), tmp_path / 'x.png', META, score_thr=0.6)
    notes = [note for _, note in sheets[0]._blocks[0][1][0]]
    assert notes == ['', '', 'nothing above 0.6 (highest score 0.50)', 'nothing detected']


def test_each_scale_has_rows_of_its_own(sheets, tmp_path):
    batches = {1.0: [batch(tmp_path)] * 2, 0.5: [batch(tmp_path)] * 2}
    titles = {Subnet(1.0, 0.5): 'cheap'}
    show_widths(Detector(), batches, (1.0, 0.5), tmp_path / 'x.png', META, titles=titles)
    assert [(list(texts[1:]), len(rows)) for texts, rows in sheets[0]._blocks] == [
        (['width 1', 'width 0.5'], 2),
        (['cheap', 'width 0.5, scale 0.5'], 2),
    ]


def test_images_without_annotations_are_shown_too(sheets, tmp_path):
    show_widths(Detector(), [batch(tmp_path, with_truth=False)], (1.0,), tmp_path / 'x.png', META)
    (truth, _), _ = sheets[0]._blocks[0][1][0]
    assert not truth.any()


def test_no_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='there is no image to show'):
        show.show_widths(Detector(), [], (1.0,), tmp_path / 'x.png', META)
