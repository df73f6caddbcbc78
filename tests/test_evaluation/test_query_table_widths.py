"""The widths of a query table by default: those that the test loop of the config evaluates."""

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import save_checkpoint

from mmmutual.evaluation.query_table.fill import _test_widths
from tests.support.tiny import ROOT


@pytest.fixture
def config() -> Config:
    return Config.fromfile(ROOT / 'configs' / 'mutual_mask_rcnn_r18_shapes.py')


@pytest.mark.parametrize(
    ('loop', 'widths'),
    [
        (dict(type='SubnetTestLoop'), (1.0, 0.75, 0.5, 0.25)),
        (dict(type='SubnetTestLoop', num_widths=2), (1.0, 0.25)),
        (dict(type='TestLoop'), (1.0, 0.75, 0.5, 0.25)),
    ],
    ids=str,
)
def test_the_grid_of_the_model(loop, widths, config):
    config.test_cfg = loop
    assert _test_widths(MODELS.build(config.model), config, 'not read.pth') == widths


def test_a_stock_config(config, tmp_path):
    mutual = MODELS.build(config.model).state_dict()
    config.model.backbone.type, config.model.neck.type = 'ResNet', 'FPN'
    config.model.backbone.pop('widths')
    stock = MODELS.build(config.model).state_dict()
    for weights, text in (
        (mutual, r'was trained mutually, with the widths 1, 0.75'),
        (stock, 'has no slimmable layer'),
    ):
        save_checkpoint(dict(state_dict=weights), str(tmp_path / 'a.pth'))
        with pytest.raises(ValueError, match=text):
            _test_widths(MODELS.build(config.model), config, tmp_path / 'a.pth')
