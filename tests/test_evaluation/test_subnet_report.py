import json
from types import SimpleNamespace

import pytest

from mmmutual.datasets import drawable_meta
from mmmutual.evaluation import format_table, main_metrics, subnet_report, write_report
from mmmutual.evaluation.plotting import plot_subnets

ROWS = [
    {'width': 1.0, 'scale': 1.0, 'multiply_adds': 180.6e9, 'box mAP': 0.4, 'mask mAP': 0.35},
    {'width': 0.25, 'scale': 0.5, 'multiply_adds': 33.3e6, 'box mAP': 0.25, 'mask mAP': 0.21},
]


def test_table():
    lines = format_table(ROWS).splitlines()
    assert [cell.strip() for cell in lines[1].strip('|').split('|')] == [
        'width',
        'scale',
        'multiply-adds',
        'box mAP',
        'mask mAP',
    ]
    assert [cell.strip() for cell in lines[3].strip('|').split('|')] == ['1', '1', '180.60 G', '0.400', '0.350']
    assert [cell.strip() for cell in lines[4].strip('|').split('|')] == ['0.25', '0.5', '33.3 M', '0.250', '0.210']
    assert format_table([]) == 'no sub-network was evaluated'


def test_main_metrics():
    assert main_metrics({'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.5, 'coco/segm_mAP': 0.2}) == {
        'box mAP': 0.3,
        'mask mAP': 0.2,
    }
    assert main_metrics({'pascal_voc/mAP': 0.7}) == {'pascal_voc/mAP': 0.7}


@pytest.mark.parametrize(
    ('names', 'titles'),
    [
        (['day/coco/bbox_mAP', 'night/coco/bbox_mAP'], ['day box mAP', 'night box mAP']),
        (['day/coco/segm_mAP', 'night/coco/bbox_mAP'], ['day mask mAP', 'night box mAP']),
        (['coco/bbox_mAP', 'lvis/bbox_mAP'], ['coco box mAP', 'lvis box mAP']),
        (['a/coco/bbox_mAP', 'a/lvis/bbox_mAP'], ['a/coco box mAP', 'a/lvis box mAP']),
        (['bbox_mAP', 'other/bbox_mAP'], ['box mAP', 'other box mAP']),
    ],
)
def test_metrics_of_several_data_sets_are_told_apart(names, titles):
    metrics = {name: index / 10 for index, name in enumerate(names)}
    assert main_metrics(metrics) == dict(zip(titles, metrics.values()))


@pytest.mark.parametrize(
    ('meta', 'palette'),
    [
        (dict(classes=('a', 'b'), palette=[(0, 0, 0)]), 'random'),
        (dict(classes=('a',), palette=[(0, 0, 0)]), [(0, 0, 0)]),
        (dict(classes=('a', 'b'), palette='coco'), 'coco'),
        ([dict(classes=('a', 'b'), palette=[(0, 0, 0)]), dict(classes=('c',))], 'random'),
        (dict(classes=('a',)), None),
        (None, None),
    ],
)
def test_a_palette_has_a_colour_for_each_class(meta, palette):
    assert drawable_meta(meta).get('palette') == palette


def test_report(tmp_path):
    paths = write_report(ROWS, tmp_path / 'new')
    assert json.loads(paths['table'].read_text()) == ROWS
    assert paths['plot'].read_bytes().startswith(b'\x89PNG')
    without = [{key: value for key, value in row.items() if key != 'multiply_adds'} for row in ROWS]
    assert set(write_report(without, tmp_path)) == {'table'}
    nothing_found = [{'width': 1.0, 'scale': 1.0, 'multiply_adds': 1e9}]  # CocoMetric gives no metric then
    assert set(write_report(nothing_found, tmp_path)) == {'table'}
    assert set(write_report([*nothing_found, *ROWS], tmp_path)) == {'table', 'plot'}


STOCK = {'width': 1.0, 'scale': 1.0, 'multiply_adds': 180.6e9, 'box mAP': 0.42}


@pytest.mark.parametrize(('stock', 'stars'), [(STOCK, [['stock'], []]), ({'box mAP': 0.4}, [[], []]), (None, [[], []])])
def test_the_stock_detector_is_a_star_where_it_has_the_metric(stock, stars, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *args, **kwargs: figures.append(self))
    write_report(ROWS, tmp_path, stock)
    drawn = [[line for line in axis.get_lines() if line.get_marker() == '*'] for axis in figures[0].axes]
    assert [[line.get_label() for line in lines] for lines in drawn] == stars
    if stock is STOCK:
        assert drawn[0][0].get_xydata().tolist() == [[180.6, 0.42]]


def test_the_stock_detector_is_the_last_row_of_the_log(tmp_path, monkeypatch):
    said = []
    runner = SimpleNamespace(
        logger=SimpleNamespace(info=said.append),
        log_dir=str(tmp_path),
        test_loop=SimpleNamespace(report=True),
    )
    monkeypatch.setattr(subnet_report, 'SubnetTestLoop', SimpleNamespace)
    monkeypatch.setattr(subnet_report, 'subnet_rows', lambda loop: ROWS)
    subnet_report.SubnetReportHook(STOCK).after_test(runner)
    cells = [cell.strip() for cell in said[0].splitlines()[-2].strip('|').split('|')]
    assert cells == ['stock', '1', '180.60 G', '0.420', '-']
    assert json.loads((tmp_path / 'subnets.json').read_text()) == ROWS


def test_plot_has_a_line_for_each_scale(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *args, **kwargs: figures.append(self))
    plot_subnets([*ROWS, {**ROWS[0], 'width': 0.5, 'multiply_adds': 100e9, 'box mAP': 0.38}], tmp_path / 'a.png')
    box, mask = figures[0].axes
    assert [line.get_label() for line in box.get_lines()] == ['scale 1', 'scale 0.5']
    assert box.get_lines()[0].get_xdata().tolist() == [100.0, 180.6]
    assert box.get_lines()[0].get_ydata().tolist() == [0.38, 0.4]
    assert (box.get_ylabel(), mask.get_ylabel(), box.get_xlabel()) == ('box mAP', 'mask mAP', 'multiply-adds (G)')
    with pytest.raises(ValueError, match='no sub-network with a metric to plot'):
        plot_subnets([], tmp_path / 'b.png')
