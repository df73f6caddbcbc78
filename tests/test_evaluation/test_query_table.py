import csv
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmutual.evaluation import MeasuredSubnet, QueryTable, format_table
from mmmutual.evaluation.plotting import plot_front
from mmmutual.evaluation.query_report import write_query_report

CONTEXT = dict(
    config='config.py',
    checkpoint='epoch_3.pth',
    checkpoint_sha256='ab12',
    size=[600, 1000],
    device='a processor',
    threads=2,
    batch_size=1,
    versions={'torch': '2.13.0'},
    created='2026-01-01T00:00:00+00:00',
)
SUBNETS = (
    MeasuredSubnet(1.0, 1.0, 1000, 40, {'box mAP': 0.40, 'mask mAP': 0.35}, 30.0, 33.0),
    MeasuredSubnet(0.5, 1.0, 700, 10, {'box mAP': 0.38, 'mask mAP': 0.36}, 22.0, 24.0),
    MeasuredSubnet(1.0, 0.5, 600, 40, {'box mAP': 0.30, 'mask mAP': 0.28}, 24.0, 25.0),
    MeasuredSubnet(0.5, 0.5, 400, 10, {'box mAP': 0.29, 'mask mAP': 0.28}, 18.5, 19.0),
)
TABLE = QueryTable(SUBNETS, CONTEXT)


def test_saved_and_loaded(tmp_path):
    path = tmp_path / 'new' / 'table.json'
    for table in (TABLE, QueryTable(SUBNETS[:1], CONTEXT, complete=False)):
        table.save(path)
        assert QueryTable.load(path) == table
    assert os.listdir(path.parent) == ['table.json']
    content = json.loads(path.read_text())
    assert (content['schema'], content['version'], content['complete']) == ('mmmutual.query_table', 1, False)


def test_a_save_that_fails_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / 'table.json'
    TABLE.save(path)
    monkeypatch.setattr(os, 'replace', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        QueryTable(SUBNETS[:1], CONTEXT).save(path)
    assert QueryTable.load(path) == TABLE
    assert os.listdir(tmp_path) == ['table.json']


def test_csv(tmp_path):
    TABLE.write_csv(tmp_path / 'table.csv')
    rows = list(csv.DictReader((tmp_path / 'table.csv').open()))
    assert list(rows[0]) == [
        'width', 'scale', 'multiply_adds', 'parameters', 'latency_ms', 'latency_p90_ms', 'box mAP', 'mask mAP'
    ]  # fmt: skip
    assert [[float(value) for value in row.values()] for row in rows] == [
        [subnet.width, subnet.scale, subnet.multiply_adds, subnet.parameters, subnet.latency_ms, subnet.latency_p90_ms]
        + list(subnet.metrics.values())
        for subnet in SUBNETS
    ]


def test_terminal():
    lines = format_table(TABLE.rows()).splitlines()
    assert [value.strip() for value in lines[3].strip('|').split('|')] == [
        '1', '1', '1000', '40', '30.0', '33.0', '0.400', '0.350'
    ]  # fmt: skip
    assert str(SUBNETS[1]) == 'width 0.5 at scale 1: 700 multiply-adds, 22.0 ms, box mAP 0.380, mask mAP 0.360'


def test_front():
    assert TABLE.front(metric='box mAP') == [SUBNETS[3], SUBNETS[2], SUBNETS[1], SUBNETS[0]]
    assert TABLE.front() == [SUBNETS[3], SUBNETS[1]]  # mask mAP: 600 multiply-adds bring no more than 400
    assert TABLE.front('latency_ms', 'box mAP') == [SUBNETS[3], SUBNETS[1], SUBNETS[0]]


numbers = st.integers(1, 6)  # few values, so that many are equal
tables = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=12).map(
    lambda rows: QueryTable(
        tuple(
            MeasuredSubnet((i + 1) / 20, 1.0, multiply_adds, 1, {'box mAP': metric / 10}, float(ms), float(ms))
            for i, (multiply_adds, ms, metric) in enumerate(rows)
        ),
        CONTEXT,
    )
)


@given(tables, st.sampled_from(['multiply_adds', 'latency_ms']))
def test_front_is_what_no_subnet_dominates(table, cost):
    def key(subnet):
        return getattr(subnet, cost), subnet.metrics['box mAP']

    points = {key(subnet) for subnet in table.subnets}
    undominated = {(c, m) for c, m in points if not any(d <= c and n >= m and (d, n) != (c, m) for d, n in points)}
    front = table.front(cost)
    assert [key(subnet) for subnet in front] == sorted(undominated)
    assert all(subnet in table.subnets for subnet in front)


@given(tables, st.none() | numbers, st.none() | numbers)
def test_best_is_the_best_that_fits(table, multiply_adds, ms):
    fitting = [
        subnet
        for subnet in table.subnets
        if (multiply_adds is None or subnet.multiply_adds <= multiply_adds) and (ms is None or subnet.latency_ms <= ms)
    ]
    if not fitting:
        with pytest.raises(ValueError, match='no sub-network fits a budget of'):
            table.best(multiply_adds, ms)
        return
    best, metric = table.best(multiply_adds, ms), 'box mAP'
    assert best in fitting
    assert best.metrics[metric] == max(subnet.metrics[metric] for subnet in fitting)
    cost = 'latency_ms' if multiply_adds is None and ms is not None else 'multiply_adds'
    equals = [subnet for subnet in fitting if subnet.metrics[metric] == best.metrics[metric]]
    assert getattr(best, cost) == min(getattr(subnet, cost) for subnet in equals)


def test_best():
    assert TABLE.best() == SUBNETS[1]
    assert TABLE.best(metric='box mAP') == SUBNETS[0]
    assert TABLE.best(budget_multiply_adds=700, metric='box mAP') == SUBNETS[1]  # a budget includes its end
    assert TABLE.best(budget_multiply_adds=650) == SUBNETS[3]  # of equals the cheaper
    assert TABLE.best(budget_ms=23) == SUBNETS[1]
    assert TABLE.best(budget_multiply_adds=650, budget_ms=24, metric='box mAP') == SUBNETS[2]


@pytest.mark.parametrize(
    ('budgets', 'text'),
    [
        (
            dict(budget_multiply_adds=300),
            'a budget of 300 multiply-adds: the cheapest is width 0.5 at scale 0.5 with 400 multi',
        ),
        (dict(budget_ms=10), 'a budget of 10.0 ms: the cheapest is width 0.5 at scale 0.5 with 18.5 ms'),
        (
            dict(budget_multiply_adds=650, budget_ms=18),
            'a budget of 650 multiply-adds and 18.0 ms: the cheapest is width 0.5 at scale 0.5 with 400 multiply-adds '
            'and width 0.5 at scale 0.5 with 18.5 ms',
        ),
        (dict(budget_ms=0), 'budget_ms must be a number above 0, but got 0'),
        (dict(budget_multiply_adds=float('nan')), 'budget_multiply_adds must be a number above 0, but got nan'),
        (dict(metric='mAP'), "no metric 'mAP'; it has ['box mAP', 'mask mAP']"),
    ],
)
def test_nothing_fits(budgets, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        TABLE.best(**budgets)


def test_wrong_types():
    with pytest.raises(TypeError, match="budget_ms must be a number above 0, but got '30'"):
        TABLE.best(budget_ms='30')


def test_without_latency():
    table = QueryTable((*SUBNETS, MeasuredSubnet(0.25, 1.0, 500, 5, SUBNETS[0].metrics)), CONTEXT)
    assert (TABLE.costs, table.costs) == (('multiply_adds', 'latency_ms'), ('multiply_adds',))
    for ask in (lambda: table.best(budget_ms=30), lambda: table.front('latency_ms')):
        with pytest.raises(ValueError, match='the query table has no latencies'):
            ask()
    with pytest.raises(ValueError, match=r"cost must be one of \['multiply_adds', 'latency_ms'\], but got 'ms'"):
        table.front('ms')


def test_subnet():
    assert TABLE.subnet(0.5, 1) == SUBNETS[1]
    text = 'no width 0.75 at scale 1; it has 1 at scale 1, 0.5 at scale 1, 1 at scale 0.5, 0.5 at scale 0.5'
    with pytest.raises(ValueError, match=re.escape(text)):
        TABLE.subnet(0.75, 1.0)


@pytest.mark.parametrize(
    ('subnets', 'text'),
    [
        ((), 'a query table needs at least one sub-network'),
        ((SUBNETS[0], SUBNETS[0]), 'width 1 at scale 1 occurs more than once'),
        ((SUBNETS[0], MeasuredSubnet(0.5, 1.0, 1, 1, {'box mAP': 0.1})), r"same metrics.*0.5 at .* \['box mAP'\]"),
        ((MeasuredSubnet(0.5, 1.0, 1, 1, {}),), 'at least one, but width 0.5'),
    ],
)
def test_inconsistent_subnets(subnets, text):
    with pytest.raises(ValueError, match=text):
        QueryTable(subnets, CONTEXT)


def changed(where, value):
    """The content of a table's file with one value replaced, or removed by ``del``."""
    content = json.loads(json.dumps(dict(schema='mmmutual.query_table', version=1, complete=True, context=CONTEXT)))
    content['subnets'] = json.loads(json.dumps([vars(subnet) for subnet in SUBNETS]))
    *parents, name = where
    node = content
    for parent in parents:
        node = node[parent]
    if value is del_:
        del node[name]
    else:
        node[name] = value
    return content


del_ = object()
DAMAGED = 'the query table .* is damaged: '


@pytest.mark.parametrize(
    ('where', 'value', 'text'),
    [
        (['schema'], 'coco', r"is not a query table: its \"schema\" should be 'mmmutual.query_table', but is 'coco'"),
        (['schema'], del_, 'is not a query table: .* is None'),
        (['version'], 2, 'has version 2, but this mmmutual reads version 1. Write it again'),
        (['complete'], 'yes', DAMAGED + '"complete" should be true or false, but is \'yes\''),
        (['subnets'], {}, DAMAGED + '"subnets" should be a list'),
        (['subnets'], [], DAMAGED + 'a query table needs at least one sub-network'),
        (['subnets', 1], 7, DAMAGED + r'"subnets\[1\]" should be an object, but is 7'),
        (['subnets', 1, 'width'], 1.5, DAMAGED + r'"subnets\[1\].width" should be a number above 0 and at most 1'),
        (['subnets', 1, 'width'], True, DAMAGED + r'"subnets\[1\].width"'),
        (['subnets', 1, 'width'], 1.0, DAMAGED + 'width 1 at scale 1 occurs more than once'),
        (['subnets', 0, 'parameters'], 1.5, DAMAGED + r'"subnets\[0\].parameters" should be a whole number, .* 1.5'),
        (['subnets', 0, 'multiply_adds'], del_, DAMAGED + r'"subnets\[0\].multiply_adds" is missing'),
        (['subnets', 0, 'metrics'], {'box mAP': '0.4'}, DAMAGED + r'"subnets\[0\].metrics" should be numbers by name'),
        (['subnets', 0, 'metrics', 'mask mAP'], del_, DAMAGED + 'each sub-network needs the same metrics'),
        (['subnets', 0, 'latency_ms'], 0, DAMAGED + r'"subnets\[0\].latency_ms" should be null or milliseconds'),
        (['subnets', 0, 'colour'], 'red', DAMAGED + r'"subnets\[0\].colour" is unknown'),
        (['context'], [], DAMAGED + '"context" should be an object'),
        (['context', 'size'], [600], DAMAGED + r'"context.size" should be height and width in pixels'),
        (['context', 'checkpoint_sha256'], del_, DAMAGED + '"context.checkpoint_sha256" is missing'),
    ],
)
def test_files_that_are_refused(where, value, text, tmp_path):
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(changed(where, value)))
    with pytest.raises(ValueError, match=text):
        QueryTable.load(path)


@pytest.mark.parametrize('content', [b'', b'{"schema": "mmmutual.query_ta', b'\xff\xfe\x00', b'{"a": NaN}'])
def test_files_that_are_no_json(content, tmp_path):
    path = tmp_path / 'table.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='is damaged: it is not JSON .*--force'):
        QueryTable.load(path)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no query table .*tools/analysis_tools/query_table.py'):
        QueryTable.load(tmp_path / 'absent.json')
    (tmp_path / 'list.json').write_text('[1]')
    with pytest.raises(ValueError, match="is not a query table: .* is 'list'"):
        QueryTable.load(tmp_path / 'list.json')


def test_every_prefix_of_a_file_is_refused(tmp_path):
    path = tmp_path / 'table.json'
    TABLE.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 50):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match='is damaged'):
            QueryTable.load(path)


def test_report(tmp_path):
    paths = write_query_report(TABLE, tmp_path / 'table.json')
    assert [path.name for path in paths] == ['table.csv', 'front_multiply_adds.png', 'front_latency.png']
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in paths[1:])


def test_plot_draws_the_front_as_a_staircase(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *args, **kwargs: figures.append(self))
    plot_front(TABLE, 'latency_ms', tmp_path / 'front.png')
    box, mask = figures[0].axes
    front = box.get_lines()[0]
    assert front.get_drawstyle() == 'steps-post'
    assert front.get_xdata().tolist() == [18.5, 22, 30, 30]
    assert front.get_ydata().tolist() == [0.29, 0.38, 0.40, 0.40]
    assert mask.get_lines()[0].get_ydata().tolist() == [0.28, 0.36, 0.36]
    assert mask.get_lines()[0].get_xdata().tolist() == [18.5, 22, 30]  # the last step reaches the dearest sub-network
    assert [line.get_label() for line in box.get_lines()[1:]] == ['scale 1', 'scale 0.5']
    assert (box.get_xlabel(), box.get_ylabel(), mask.get_ylabel()) == ('latency (ms)', 'box mAP', 'mask mAP')
    assert 'a processor, 2 threads, batch of 1' in figures[0].get_suptitle()


def test_labels_do_not_overlap(tmp_path, monkeypatch):
    """Twenty sub-networks on a front, nearly on one another: fewer labels, and no two that touch."""
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *args, **kwargs: figures.append(self))
    subnets = [MeasuredSubnet((i + 1) / 20, 1.0, 10**9 + i * 10**6, 1, {'box mAP': 0.3 + i / 1000}) for i in range(19)]
    subnets.append(MeasuredSubnet(1.0, 1.0, 10**10, 1, {'box mAP': 0.9}))
    plot_front(QueryTable(tuple(subnets), CONTEXT), 'multiply_adds', tmp_path)
    (axis,) = figures[0].axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert 1 < len(boxes) < 20
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
