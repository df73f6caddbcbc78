"""Any error in a pass names width, scale and image size."""

import pytest
import torch

from mmmutual.engine import SandwichSampler, Subnet
from mmmutual.engine.pass_errors import describe_pass, note_pass
from mmmutual.layers import get_width
from tests.support.tiny import build_runner, tiny_retinanet, without_validation

SCALE = SandwichSampler((1.0, 0.75, 0.5, 0.25), (1.0, 0.75, 0.5)).sample(0)[-1].scale


@pytest.mark.parametrize(
    ('inputs', 'text'),
    [
        (torch.zeros(2, 3, 48, 64), ', 2 images of 48 x 64 pixels (height x width)'),
        ([torch.zeros(3, 48, 64)], ', 1 image of 48 x 64 pixels (height x width)'),
        ([torch.zeros(3, 8, 9), torch.zeros(3, 7, 8)], ', 2 images of 8 x 9, 7 x 8 pixels (height x width)'),
        ({}, ''),
        (None, ''),
        (torch.zeros(4), ''),
    ],
)
def test_a_pass_in_words(inputs, text):
    assert describe_pass(Subnet(0.5, 0.8), inputs) == f'width 0.5 at scale 0.8{text}'


def test_a_note_is_added_once():
    error = ValueError('original')
    note_pass(error, 'here')
    note_pass(error, 'here')
    assert str(error) == 'original'
    assert getattr(error, '__notes__', ['here']) == ['here']


def notes(error) -> str:
    return ' '.join(getattr(error, '__notes__', ()))


@pytest.mark.skipif(not hasattr(ValueError, 'add_note'), reason='Python 3.10 has no notes; the log has them')
@pytest.mark.parametrize(
    ('width', 'where'), [(1.0, 'width 1 at scale 1, 2 images of 64 x 64'), (0.25, f'width 0.25 at scale {SCALE:g}, 2')]
)
@pytest.mark.parametrize('error', [RuntimeError, KeyError, AssertionError])
def test_errors_of_training_passes(width, where, error, tiny_data, tmp_path):
    runner = build_runner(without_validation(tiny_retinanet(tiny_data, tmp_path)))
    head = runner.model.bbox_head.loss

    def loss(*args):
        if get_width(runner.model) == width:
            raise error('whatever')
        return head(*args)

    runner.model.bbox_head.loss = loss
    with pytest.raises(error, match='whatever') as caught:
        runner.train()
    assert f'iteration 1, {where}' in notes(caught.value)


@pytest.mark.skipif(not hasattr(ValueError, 'add_note'), reason='Python 3.10 has no notes; the log has them')
def test_errors_of_an_evaluation(tiny_data, tmp_path):
    config = tiny_retinanet(tiny_data, tmp_path)
    config.test_cfg.update(widths=(1.0,), scales=(1.0, 0.5))
    runner = build_runner(config)
    runner.model.bbox_head.predict = lambda *args, **kwargs: 1 / 0
    with pytest.raises(ZeroDivisionError) as caught:
        runner.test()
    assert notes(caught.value) == 'evaluation, width 1 at scale 0.5, 2 images of 32 x 32 pixels (height x width)'
