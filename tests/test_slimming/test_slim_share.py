"""The line that says how much of a detector slims, and the warning below a half."""

from types import SimpleNamespace

import pytest

from mmmutual.config import load_config, make_mutual_with_plan
from mmmutual.slimming import format_share
from mmmutual.slimming.slim_share import percent


def plan(share: float, scope: str = 'backbone', **reasons: float) -> SimpleNamespace:
    return SimpleNamespace(share=share, scope=scope, reasons=reasons, multiply_adds={None: 1})


def test_a_line_says_the_share():
    assert format_share(plan(0.934)) == 'slims 93 % of the multiply-adds of the detector (scope backbone)'
    assert '\n' not in format_share(plan(0.5, 'detector'))


def test_below_a_half_the_largest_reasons_and_the_way_out():
    line, warning = format_share(plan(0.1, 'detector', least=0.05, more=0.2, most=0.5, some=0.15)).splitlines()
    assert line == 'slims 10 % of the multiply-adds of the detector (scope detector)'
    assert 'since most (50 %); more (20 %); some (15 %). Use another backbone, neck or head' in warning
    assert 'least' not in warning


def test_a_share_that_cannot_be_counted_is_not_zero():
    unknown = SimpleNamespace(share=0.0, scope='backbone', reasons={}, multiply_adds={})
    assert format_share(unknown).startswith('the slimmable share of the multiply-adds is not known')


def test_what_is_outside_of_the_scope_is_a_reason():
    warning = format_share(plan(0.3, softmax=0.1, nothing=0)).splitlines()[1]
    assert (
        'neck and heads are outside of this scope (60 %); softmax (10 %). Use --scope detector (with tools/' in warning
    )
    assert 'nothing' not in warning


@pytest.mark.parametrize(
    ('name', 'reasons'),
    [
        ('retinanet/retinanet_r18_fpn_1x_coco.py', ['neck and heads']),
        ('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', ['neck and heads']),
    ],
)
@pytest.mark.integration
def test_a_detector_below_a_half(name, reasons):
    stock = load_config(f'mmdet::{name}')
    stock.model.backbone.init_cfg = None
    line, warning = format_share(make_mutual_with_plan(stock, (1.0, 0.5), (1.0,))[1]).splitlines()
    assert int(line.split()[1]) < 50 and line.startswith('slims ')
    assert warning.startswith('warning: ') and '--scope detector' in warning
    assert all(reason in warning for reason in reasons)


def test_whole_percents():
    assert (percent(0), percent(0.416), percent(1)) == ('0 %', '42 %', '100 %')
