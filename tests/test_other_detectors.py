"""The trainings and the page of benchmarks/other_detectors.py."""

import json

import pytest
from mmengine.config import Config

from other_detectors import CONFIGS, collect, format_tables


def rows_of(*values: float) -> list[dict]:
    widths = (1.0, 0.75, 0.5, 0.25)
    return [{'width': width, 'multiply_adds': width * 4e6, 'box mAP': value} for width, value in zip(widths, values)]


def test_the_page_shows_the_runs_that_are_kept(root):
    page = (root / 'docs' / 'results_other_detectors.md').read_text()
    found = json.loads((root / 'benchmarks' / 'results' / 'other_detectors' / 'shapes.json').read_text())
    assert [*found] == [*CONFIGS]
    assert format_tables(found) in page


def test_every_width_of_the_kept_runs_learned_and_detects(root):
    found = json.loads((root / 'benchmarks' / 'results' / 'other_detectors' / 'shapes.json').read_text())
    for result in found.values():
        assert all(last < highest for highest, last in result['losses'].values())
        assert all(row['box mAP'] > 0.01 for row in result['rows'])


def test_losses_are_the_highest_and_the_last_one(tmp_path):
    folder = tmp_path / '20300101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    records = [
        {'loss': 5.0, 'w0.75/loss': 9.5, 'w0.5/loss': 10.0, 'step': 10},
        {'loss': 9.0, 'w0.75/loss': 5.5, 'w0.5/loss': 6.0, 'w0.25/loss': 12.0, 'step': 20},
        {'loss': 2.0, 'w0.75/loss': 2.5, 'w0.5/loss': 3.0, 'w0.25/loss': 4.0, 'step': 30},
        {'coco/bbox_mAP': 0.4, 'step': 30},
    ]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
    (tmp_path / 'rows.json').write_text(json.dumps(rows_of(0.4, 0.3, 0.2, 0.1)))
    result = collect(tmp_path)
    assert result['iterations'] == 30
    assert result['losses'] == {'1': [9.0, 2.0], '0.75': [9.5, 2.5], '0.5': [10.0, 3.0], '0.25': [12.0, 4.0]}
    assert format_tables({'small': result}).splitlines()[::6] == [
        '**box mAP**',
        '**Training loss, highest and last**',
        '**M multiply-adds**',
    ]
    for line in ('| small | 30 | 0.400 | 0.300 | 0.200 | 0.100 |', '| small | 30 | 4 | 3 | 2 | 1 |'):
        assert line in format_tables({'small': result}).splitlines()
    assert '| small | 30 | 9.0 / 2.0 | 9.5 / 2.5 | 10.0 / 3.0 | 12.0 / 4.0 |' in format_tables({'small': result})


def test_a_width_that_detects_nothing_or_is_not_counted_has_its_place():
    result = dict(iterations=1, losses={}, rows=rows_of(0.4, 0.3, 0.2, 0.1))
    result['losses'] = {f'{row["width"]:g}': [1.0, 0.5] for row in result['rows']}
    del result['rows'][-1]['box mAP'], result['rows'][-1]['multiply_adds']
    table = format_tables({'small': result})
    assert '| small | 1 | 0.400 | 0.300 | 0.200 | 0.000 |' in table
    assert '| small | 1 | 4 | 3 | 2 | - |' in table


@pytest.mark.parametrize('name', CONFIGS.values())
def test_the_trainings_start_from_random_weights_and_have_the_classes_of_the_shapes(name, root):
    config = Config.fromfile(root / 'benchmarks' / 'evidence' / f'{name}.py')
    head = config.model.get('bbox_head') or config.model.roi_head.bbox_head
    assert head.num_classes == 4
    assert not config.model.backbone.get('init_cfg')
    assert config.train_dataloader.dataset.ann_file == 'annotations/train.json'
