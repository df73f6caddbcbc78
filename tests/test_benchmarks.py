"""The benchmark runs, and refuses to time what does not compute the same."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config, DictAction

from evidence import tables, trainings
from speed.inference import check_same
from speed.table import Row, as_markdown
from speed.timing import ratios, take_turns
from tests.support.tiny import find_hook

WIDTHS = (1.0, 0.75, 0.5, 0.25)


@pytest.mark.integration
def test_quick_run_measures_each_width_and_writes_json(root, tmp_path):
    parts = ('inference', 'switching', 'training', 'counting')
    options = ('--quick', '--size', '64', '64', '--rounds', '1', '--threads', '1', '--out', tmp_path / 'speed.json')
    command = [sys.executable, root / 'benchmarks' / 'run.py', *options, '--parts', *parts]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stderr
    rows = {row['what']: row for row in json.loads((tmp_path / 'speed.json').read_text())['rows']}
    for width in WIDTHS:
        for part in ('backbone and FPN', 'detector'):
            assert rows[f'{part}, width {width:g}, frozen']['target'] == 1.02
            assert rows[f'{part}, width {width:g}']['target'] is None
            assert f'| {part}, width {width:g} |' in result.stdout
    assert {row['met'] for row in rows.values()} <= {True, False, None}
    assert rows['mutual iteration, batch 2']['target'] == 1.05


def test_networks_that_differ_are_not_timed():
    class Doubled(torch.nn.Identity):
        def extract_feat(self, image):
            return (2 * image,)

    class Same(torch.nn.Identity):
        def extract_feat(self, image):
            return (image,)

    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(RuntimeError, match='differs from authors by'):
        check_same(dict(ours=Same(), authors=Doubled()), image)


def test_row_is_met_by_its_median():
    row = Row('ours', (0.9, 1.01, 5.0), 'static: 3 ms', 1.02)
    assert row.met
    assert not Row('ours', (1.0, 1.03, 1.04), target=1.02).met
    assert Row('ours', (2.0,)).met is None
    assert as_markdown([row]).splitlines()[2] == '| ours | 1.010x | 0.955 to 3.005 | <= 1.02x | yes | static: 3 ms |'


def test_calls_take_turns_and_rounds_pair_up():
    order = []
    times = take_turns({name: lambda name=name: order.append(name) for name in 'abc'}, rounds=2, warmup=1)
    assert ''.join(order) == 'abcbcacab'
    assert all(len(values) == 2 for values in times.values())
    assert ratios({'ours': [2.0, 9.0], 'static': [1.0, 3.0]}, 'ours', 'static') == [2.0, 3.0]


def rows_of(*values: float) -> list[dict]:
    """Two widths at one scale; half the cost each."""
    return [
        dict(width=width, scale=1.0, multiply_adds=1e6 * width, **{'box mAP': value})
        for width, value in zip((1.0, 0.5), values)
    ]


def test_differences_are_between_runs_of_one_seed():
    ours, theirs = [rows_of(0.4, 0.1), rows_of(0.7, 0.1)], [rows_of(0.5, 0.4), rows_of(0.6, 0.2)]
    methods = dict(ours=ours, theirs=theirs)
    assert tables.format_subnets(methods, 'box mAP').splitlines() == [
        '| width | scale | M multiply-adds | ours | theirs | ours over theirs |',
        '|---|---|---|---|---|---|',
        '| 1 | 1 | 1 | 0.550 ± 0.150 | 0.550 ± 0.050 | +0.000 (-0.100 to +0.100) |',
        '| 0.5 | 1 | 0 | 0.100 ± 0.000 | 0.300 ± 0.100 | -0.200 (-0.300 to -0.100) |',
    ]
    small = [[{**row, 'scale': 0.5, 'box mAP': value} for row in rows_of(0, 0)] for value in (0.2, 0.202)]
    methods = {name: [rows + few for rows, few in zip(runs, small)] for name, runs in methods.items()}
    assert tables.format_summary(methods, 'box mAP').splitlines() == [
        '| method | width 1 | width 0.5 | mean of scale 0.5 | mean of all | difference |',
        '|---|---|---|---|---|---|',
        '| ours | 0.550 ± 0.150 | 0.100 ± 0.000 | 0.201 ± 0.001 | 0.263 ± 0.038 |  |',
        '| theirs | 0.550 ± 0.050 | 0.300 ± 0.100 | 0.201 ± 0.001 | 0.313 ± 0.012 | +0.050 (+0.000 to +0.100) |',
    ]


def test_a_lead_is_the_mean_of_the_widths_that_both_have():
    ours, theirs = [rows_of(0.4, 0.1), rows_of(0.7, 0.3)], [rows_of(0.5, 0.4), rows_of(0.6, 0.2)]
    one_width = [rows[:1] for rows in theirs]
    assert tables.format_leads(dict(ours=ours, theirs=theirs, wide=one_width), 'box mAP').splitlines() == [
        '| scale | ours over theirs | ours over wide |',
        '|---|---|---|',
        '| 1 | -0.050 (-0.200 to +0.100) | +0.000 (-0.100 to +0.100) |',
    ]


def test_a_sub_network_that_found_nothing_is_a_dash():
    nothing = [dict(width=1.0, scale=1.0, multiply_adds=1e6), rows_of(0.3, 0.3)[1]]
    methods = dict(ours=[rows_of(0.5, 0.4)], theirs=[nothing])
    assert '| 1 | 1 | 1 | 0.500 ± 0.000 | - | - |' in tables.format_subnets(methods, 'box mAP')
    assert '| theirs | - | 0.300 ± 0.000 | - | - |' in tables.format_summary(methods, 'box mAP')
    assert tables.best_of([nothing], 'box mAP') == [(0.5, 1.0)]


def test_costs_that_differ_are_each_shown():
    dear = [{**row, 'multiply_adds': 7e6} for row in rows_of(0.3, 0.3)]
    lines = tables.format_subnets(dict(ours=[rows_of(0.5, 0.4)], theirs=[dear]), 'box mAP').splitlines()
    assert lines[2].startswith('| 1 | 1 | 1 / 7 |')
    one_width = tables.format_subnets(dict(ours=[rows_of(0.5, 0.4)], theirs=[dear[:1]]), 'box mAP')
    assert one_width.splitlines()[3].endswith('| 0 | 0.400 ± 0.000 | - | - |')


def test_the_front_is_that_of_the_mean_over_the_seeds():
    runs = [rows_of(0.5, 0.4), rows_of(0.6, 0.2)]
    assert tables.best_of(runs, 'box mAP') == [(0.5, 1.0), (1.0, 1.0)]
    assert tables.best_of([rows_of(0.3, 0.3)], 'box mAP') == [(0.5, 1.0)]
    fronts = tables.format_fronts(dict(ours=runs), 'box mAP', number=2).splitlines()
    assert fronts[0] == '| within M multiply-adds | ours |'
    assert fronts[3] == '| 1 | 0.550 ± 0.050 |'


def test_the_results_page_shows_the_runs_that_are_kept(root):
    page = (root / 'docs' / 'results.md').read_text()
    kept = list((root / 'benchmarks' / 'results').glob('*.json'))
    assert kept
    for path in kept:
        methods = json.loads(path.read_text())['runs']
        metrics = tables.metrics_in(methods)
        assert metrics
        for metric in metrics:
            assert tables.format_summary(methods, metric) in page
            assert tables.format_subnets(methods, metric) in page
            assert tables.format_leads(methods, metric) in page


def test_an_independent_network_has_the_width_of_its_name(tmp_path):
    from miniature import collect

    for width in (1.0, 0.5):
        folder = tmp_path / f'independent_{width:g}_3'
        folder.mkdir()
        (folder / 'rows.json').write_text(json.dumps([dict(width=1.0, scale=1.0, multiply_adds=5)]))
    rows = collect(tmp_path, ('independent_1', 'independent_0.5'), 3)
    assert [row['width'] for row in rows] == [1.0, 0.5]


@pytest.mark.integration
def test_a_training_that_cannot_run_says_why(tmp_path, monkeypatch, capsys):
    import miniature

    Training = trainings.Training
    lacking = Training(needs=(tmp_path / 'digits.pth', 'make pretrain'))
    monkeypatch.setitem(miniature.TRAININGS, 'lacking', lacking)
    monkeypatch.setitem(miniature.TRAININGS, 'broken', Training(config='no_such_config.py'))
    with pytest.raises(SystemExit):
        miniature.train('lacking', 'mask_rcnn', 0, 1, tmp_path / 'lacking_0')
    assert f'error: {tmp_path}/digits.pth is missing; make it:  make pretrain' in capsys.readouterr().err
    with pytest.raises(
        SystemExit, match=r'(?s)no_such_config.py.*error: broken, seed 0 failed, .*/log.txt has all output'
    ):
        miniature.train('broken', 'mask_rcnn', 0, 1, tmp_path / 'broken_0')


@pytest.mark.parametrize('detector', ['mask_rcnn', 'faster_rcnn'])
def test_an_independent_training_is_that_of_a_stock_network(detector, root, monkeypatch):
    training = trainings.TRAININGS['independent_0.5']
    for name, value in {**training.environment, 'DETECTOR': detector, 'EPOCHS': '1'}.items():
        monkeypatch.setenv(name, value)
    config = Config.fromfile(root / training.config)
    torch.manual_seed(0)
    ours = MODELS.build(config.model)
    config.model.backbone.type, config.model.neck.type = 'ResNet', 'FPN'
    config.model.backbone.pop('widths')
    torch.manual_seed(0)
    stock = MODELS.build(config.model)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in stock.state_dict().items()
    }
    assert ours.backbone.base_channels == 16
    assert find_hook(config).num_subnets == 1
    assert ('mask_head' in config.model.roi_head) == (detector == 'mask_rcnn')


@pytest.mark.integration
def test_each_method_is_made_of_trainings_whose_settings_fit(root, monkeypatch):
    for name, training in trainings.TRAININGS.items():
        for variable, value in training.environment.items():
            monkeypatch.setenv(variable, value)
        config = Config.fromfile(root / training.config)
        action = DictAction(['--cfg-options'], 'cfg_options', nargs='+')
        namespace = SimpleNamespace()
        action(None, namespace, list(training.settings))
        config.merge_from_dict(namespace.cfg_options)
        HOOKS.build(find_hook(config))
        kinds = [hook.type for hook in config.custom_hooks]
        assert ('BNCalibrationHook' in kinds) == (name != 'running')
        for variable in training.environment:
            monkeypatch.delenv(variable)
    names = {name for names in trainings.METHODS.values() for name in names}
    assert names == set(trainings.TRAININGS)
