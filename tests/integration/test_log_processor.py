import json
import re

import pytest

from mmmutual.engine.log_processor import _sorted_widths
from tests.support.tiny import build_runner, run_training, tiny_config, without_validation


def test_lines_are_short_and_records_complete(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.default_hooks.logger.interval = 1
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.log_level = 'INFO'
    runner = build_runner(config)
    lines = []
    runner.logger.handlers[0].emit = lambda record: lines.append(record.getMessage())
    runner.train()
    train = [line for line in lines if line.startswith('Epoch(train)')]
    assert len(train) == 4
    for line in train:
        assert set(re.findall(r'(w[\d.]+)/loss: \d', line)) == {'w0.75', 'w0.5', 'w0.25'}
        assert 'w0.25/loss_cls' not in line
        assert line.index('w0.75/loss') < line.index('w0.5/loss') < line.index('w0.25/loss')
        assert re.search(r'  loss: \d+\.\d+  loss_rpn_cls: \d', line)
    val = next(line for line in lines if line.startswith('Epoch(val)') and 'coco/' in line)
    assert 'coco/bbox_mAP: ' in val and 'coco/segm_mAP: ' in val
    assert 'w0.25_s1' not in val
    scalars = [json.loads(line) for line in next(tmp_path.rglob('scalars.json')).read_text().splitlines()]
    assert {'w0.25/loss_cls', 'w0.5/loss', 'loss'} <= set(scalars[0])
    assert {'w0.25_s1/coco/bbox_mAP', 'coco/bbox_mAP'} <= set(scalars[-1])


def test_losses_of_the_widths_are_in_the_same_order_in_each_line():
    start = 'Epoch(train) [1][1/4]  lr: 1e-3  data_time: 0.1'
    losses = ['  w0.125/loss: 1.0', '  w0.75/loss: 2.0', '  w0.5/loss: 3.0']
    ordered = start + '  loss: 4.0  loss_cls: 1.0' + losses[1] + losses[2] + losses[0]
    assert _sorted_widths(start + losses[0] + losses[1] + '  loss: 4.0  loss_cls: 1.0' + losses[2]) == ordered
    assert _sorted_widths(ordered) == ordered
    assert _sorted_widths(start) == start


def test_tensorboard_has_a_curve_for_each_width(tiny_data, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = without_validation(tiny_config(tiny_data, tmp_path))
    config.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
    config.default_hooks.logger.interval = 1
    run_training(config)
    events = EventAccumulator(str(next(tmp_path.rglob('events.out.tfevents*')).parent))
    events.Reload()
    assert {'loss', 'w0.75/loss', 'w0.5/loss', 'w0.25/loss', 'w0.25/loss_cls'} <= set(events.Tags()['scalars'])
    assert [event.step for event in events.Scalars('w0.25/loss')] == [1, 2, 3, 4]
