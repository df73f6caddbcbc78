"""The line that says how much of a detector slims, and the warning below a half."""

from types import SimpleNamespace

import pytest

from mmmutual.apis import format_share, load_config, make_mutual_with_plan
from mmmutual.apis.slim_share import percent


def plan(share: float, **kept: float) -> SimpleNamespace:
    return SimpleNamespace(share=share, kept=kept)


def test_a_line_says_the_share():
    assert format_share(plan(0.934), 'backbone') == 'slims 93 % of the multiply-adds of the detector (scope backbone)'
    assert '\n' not in format_share(plan(0.5), 'detector')


def test_below_a_half_the_largest_reasons_and_the_way_out():
    line, warning = format_share(plan(0.1, most=0.5, more=0.2, some=0.15, least=0.05), 'backbone').splitlines()
    assert line == 'slims 10 % of the multiply-adds of the detector (scope backbone)'
    assert 'most (50 %), more (20 %), some (15 %); --slim detector (with tools/train.py: --mutual detector)' in warning
    assert 'least' not in warning
    assert 'another backbone, neck or head' in format_share(plan(0.1, all=0.9), 'detector')


@pytest.mark.parametrize(
    ('name', 'part'), [('retinanet/retinanet_r18_fpn_1x_coco.py', 'bbox_head'), ('detr/detr_r50_8xb2-150e_coco.py', '')]
)
def test_of_a_detector_with_a_heavy_head(name, part):
    stock = load_config(f'mmdet::{name}')
    stock.model.backbone.init_cfg = None
    line, warning = format_share(make_mutual_with_plan(stock, (1.0, 0.5), (1.0,))[1], 'backbone').splitlines()
    assert int(line.split()[1]) < 50 and line.startswith('slims ')
    assert warning.startswith('warning: ') and part in warning and '--slim detector' in warning


def test_whole_percents():
    assert (percent(0), percent(0.416), percent(1)) == ('0 %', '42 %', '100 %')
