"""The benchmark runs, and refuses to time what does not compute the same."""

import json
import subprocess
import sys

import pytest
import torch

WIDTHS = (1.0, 0.75, 0.5, 0.25)


@pytest.fixture
def speed(root, monkeypatch):
    """The package beside benchmarks/run.py."""
    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    import speed

    return speed


def test_quick_run_measures_each_width_and_writes_json(root, tmp_path):
    parts = ('inference', 'switching', 'training', 'counting')
    options = ('--quick', '--size', '64', '64', '--rounds', '1', '--threads', '1', '--out', tmp_path / 'speed.json')
    command = [sys.executable, root / 'benchmarks' / 'run.py', *options, '--parts', *parts]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stderr
    rows = {row['what']: row for row in json.loads((tmp_path / 'speed.json').read_text())['rows']}
    for width in WIDTHS:
        for part in ('backbone and FPN', 'whole detector'):
            assert rows[f'{part}, width {width:g}']['target'] == 1.02
            assert f'| {part}, width {width:g} |' in result.stdout
    assert {row['met'] for row in rows.values()} <= {True, False, None}
    assert rows['mutual iteration, batch 2']['target'] == 1.05


def test_networks_that_differ_are_not_timed(speed):
    from speed.inference import check_same

    class Doubled(torch.nn.Identity):
        def extract_feat(self, image):
            return (2 * image,)

    class Same(torch.nn.Identity):
        def extract_feat(self, image):
            return (image,)

    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(RuntimeError, match='differs from authors by'):
        check_same(dict(ours=Same(), authors=Doubled()), image)


def test_row_is_met_by_its_median(speed):
    from speed.table import Row, as_markdown

    row = Row('ours', (0.9, 1.01, 5.0), 'static: 3 ms', 1.02)
    assert row.met
    assert not Row('ours', (1.0, 1.03, 1.04), target=1.02).met
    assert Row('ours', (2.0,)).met is None
    assert as_markdown([row]).splitlines()[2] == '| ours | 1.010x | 0.955 to 3.005 | <= 1.02x | yes | static: 3 ms |'


def test_calls_take_turns_and_rounds_pair_up(speed):
    from speed.timing import ratios, take_turns

    order = []
    times = take_turns({name: lambda name=name: order.append(name) for name in 'abc'}, rounds=2, warmup=1)
    assert ''.join(order) == 'abcbcacab'
    assert all(len(values) == 2 for values in times.values())
    assert ratios({'ours': [2.0, 9.0], 'static': [1.0, 3.0]}, 'ours', 'static') == [2.0, 3.0]
