"""The trainings and tables of benchmarks/elastic.py."""

import json

import pytest

from evidence import elastic_jobs, elastic_tables
from evidence.compute import cost_of_passes
from evidence.elastic_jobs import SCALES, Job, jobs_of
from evidence.elastic_tables import TABLES, format_tables, plot_compute, total_compute, with_alone
from evidence.tables import format_compute
from evidence.trainings import WIDTHS

COSTS = {(width, scale): width * scale for width in WIDTHS for scale in SCALES}


def rows_of(*values: float, widths: tuple[float, ...] = WIDTHS) -> list[dict]:
    return [{'width': width, 'scale': 1.0, 'box mAP': value} for width, value in zip(widths, values)]


def test_the_cost_of_an_iteration_is_that_of_its_passes():
    scale = sum(SCALES) / 3
    assert cost_of_passes(WIDTHS, SCALES, COSTS, 2) == pytest.approx(1 + 0.25 * scale)
    assert cost_of_passes(WIDTHS, SCALES, COSTS, 4) == pytest.approx(1 + 0.25 * scale + 2 * 0.625 * scale)
    assert Job(10, hook=('num_subnets=2',)).cost(COSTS) == pytest.approx(10 * cost_of_passes(WIDTHS, SCALES, COSTS, 2))
    assert Job(10, 'stock', width=0.5).cost(COSTS) == 5
    scopes = {name: job.scope for name, job in jobs_of(COSTS).items()}
    assert {name for name, scope in scopes.items() if scope == 'detector'} == {
        name for name in scopes if name.startswith('detector')
    }


def test_trainings_of_equal_compute_have_equal_compute():
    jobs = jobs_of(COSTS)
    compute = {name: job.cost(COSTS) for name, job in jobs.items()}
    expected = total_compute('ordered, 250', compute)
    assert expected == pytest.approx(750 + 250 * cost_of_passes(WIDTHS, SCALES, COSTS, 4))
    for name in ('scratch, equal compute', 'narrow networks alone', '2 passes', '3 passes'):
        assert total_compute(name, compute) == pytest.approx(expected, rel=0.005), name
    assert total_compute('scratch, stock not counted', compute) == pytest.approx(expected - 750)


def test_each_table_is_made_of_trainings():
    names = set(jobs_of(COSTS)) | {'narrow networks alone'}
    shown = {name for table in TABLES.values() for name in table}
    assert shown <= names
    assert names - shown == {'stock', *elastic_tables.ALONE}


def test_tables_pair_the_seeds():
    runs = {
        'ordered, 250': [rows_of(0.4, 0.3, 0.2, 0.1), rows_of(0.6, 0.5, 0.4, 0.3)],
        'as it is, 250': [rows_of(0.4, 0.2, 0.1, 0.1), rows_of(0.6, 0.3, 0.2, 0.1)],
    }
    assert format_compute(runs, dict.fromkeys(runs, 1000.0), WIDTHS, 'box mAP').splitlines() == [
        '| training | compute | width 1 | width 0.75 | width 0.5 | width 0.25 | mean | difference |',
        '|---|---|---|---|---|---|---|---|',
        '| ordered, 250 | 1000 | 0.500 ± 0.100 | 0.400 ± 0.100 | 0.300 ± 0.100 | 0.200 ± 0.100 | 0.350 ± 0.100 |  |',
        '| as it is, 250 | 1000 | 0.500 ± 0.100 | 0.250 ± 0.050 | 0.150 ± 0.050 | 0.100 ± 0.000 | 0.250 ± 0.050 '
        '| -0.100 (-0.150 to -0.050) |',
    ]


def test_narrow_networks_and_the_stock_detector_are_one_method(tmp_path):
    runs = {'stock': [rows_of(0.5)], 'ordered, 0': [rows_of(0.5, 0.4, 0.3, 0.2)]}
    for width in WIDTHS[1:]:
        runs[f'narrow {width:g}'] = [rows_of(width / 2, widths=(width,))]
    assert with_alone(runs)['narrow networks alone'] == [rows_of(0.5, 0.375, 0.25, 0.125)]
    compute = {'stock': 750.0, 'ordered, 0': 0.0, **{f'narrow {width:g}': 100.0 for width in WIDTHS[1:]}}
    assert total_compute('narrow networks alone', compute) == 1050
    assert plot_compute(runs, compute, tmp_path / 'compute.png').stat().st_size > 10_000


def test_a_table_needs_two_trainings():
    runs = {'ordered, 0': [rows_of(0.5, 0.4, 0.3, 0.2)], 'as it is, 0': [rows_of(0.5, 0.2, 0.1, 0.0)]}
    compute = dict.fromkeys(runs, 0.0)
    assert format_tables('mask_rcnn', runs, compute).startswith('**mask_rcnn: channels ordered, and as they are, 0')
    assert format_tables('mask_rcnn', {'ordered, 0': runs['ordered, 0']}, compute) == ''
    others = {'l1, 0': runs['ordered, 0'], 'l2, 0': runs['as it is, 0']}  # without what they are compared with
    assert format_tables('mask_rcnn', others, dict.fromkeys(others, 0.0)) == ''


def test_the_page_shows_the_runs_that_are_kept(root):
    page = (root / 'docs' / 'elastic_results.md').read_text()
    kept = list((root / 'benchmarks' / 'results' / 'elastic').glob('*.json'))
    assert kept
    for path in kept:
        found = json.loads(path.read_text())
        tables = format_tables(path.stem, found['runs'], found['compute']).split('\n**')
        assert len(tables) > 1
        for table in tables:
            assert table.strip() in page


def test_a_job_runs_the_tools_and_keeps_its_sub_networks(tmp_path, monkeypatch):
    calls = []

    def call(tool, arguments, environment, log):
        calls.append((tool, arguments, environment))
        (folder / 'subnets.json').write_text(json.dumps(rows_of(0.5)))

    monkeypatch.setattr(elastic_jobs, 'call', call)
    (tmp_path / 'last_checkpoint').write_text('epoch_3.pth')
    folder = tmp_path / 'job'
    folder.mkdir()
    (folder / 'epoch_1.pth').touch()  # of an interrupted run
    none = ('--importance', 'none')
    Job(500, options=none, hook=('num_subnets=2',)).run('faster_rcnn', 1, folder, tmp_path)
    ((tool, arguments, environment),) = calls
    assert tool == 'elastic.py' and not (folder / 'epoch_1.pth').exists()
    assert arguments[1] == 'epoch_3.pth'
    assert arguments[arguments.index('--epochs') + 1] == '2'
    assert {'custom_hooks.1.num_subnets=2', 'randomness.seed=1'} <= set(arguments)
    assert (environment['DETECTOR'], environment['ITERATIONS']) == ('faster_rcnn', '500')
    assert json.loads((folder / 'rows.json').read_text()) == rows_of(0.5)
