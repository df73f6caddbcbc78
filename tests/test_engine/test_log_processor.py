import json
import re

from tiny import build_runner, tiny_config


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
        assert re.search(r'  loss: \d+\.\d+  loss_rpn_cls: \d', line)
    val = next(line for line in lines if line.startswith('Epoch(val)') and 'coco/' in line)
    assert 'coco/bbox_mAP: ' in val and 'coco/segm_mAP: ' in val
    assert 'w0.25_s1' not in val
    scalars = [json.loads(line) for line in next(tmp_path.rglob('scalars.json')).read_text().splitlines()]
    assert {'w0.25/loss_cls', 'w0.5/loss', 'loss'} <= set(scalars[0])
    assert {'w0.25_s1/coco/bbox_mAP', 'coco/bbox_mAP'} <= set(scalars[-1])
