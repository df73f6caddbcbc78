import json
import sys
from subprocess import run

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmmutual.evaluation.plotting import budgets_of, front, fronts, plot_fronts

NARROW, WIDE, BAD = (dict(multiply_adds=cost, mAP=value) for cost, value in ((1e6, 0.2), (4e6, 0.5), (2e6, 0.1)))


def test_the_front_is_the_best_that_fits():
    budgets = np.array([0.5e6, 1e6, 3e6, 4e6])
    np.testing.assert_equal(front([WIDE, NARROW, BAD], 'mAP', budgets), [np.nan, 0.2, 0.2, 0.5])
    np.testing.assert_equal(front([dict(multiply_adds=1e6)], 'mAP', budgets), [np.nan] * 4)  # it found nothing
    assert fronts([[WIDE], [NARROW]], 'mAP', budgets).shape == (2, 4)


def test_budgets_span_all_costs():
    np.testing.assert_allclose(budgets_of({'a': [[NARROW]], 'b': [[WIDE, BAD]]}, 3), [1e6, 2e6, 4e6])


def test_the_plot(tmp_path):
    path = plot_fronts({'a': [[NARROW, WIDE], [NARROW, BAD]], 'b': [[WIDE]]}, tmp_path / 'new' / 'fronts.png')
    assert path.read_bytes().startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='there is no sub-network with a metric to plot'):
        plot_fronts({'a': [[dict(multiply_adds=1e6)]]}, tmp_path / 'fronts.png')


def test_the_plot_is_a_staircase_with_a_point_for_each_that_is_the_best(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *_, **__: drawn.append(figure))
    plot_fronts({'a': [[WIDE, NARROW, BAD]]}, tmp_path / 'fronts.png')
    (axis,) = drawn[0].axes
    (line,) = axis.lines
    assert line.get_drawstyle() == 'steps-post'
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 4, 4.24])  # M, the last one beyond the most expensive
    np.testing.assert_allclose(line.get_ydata(), [0.2, 0.2, 0.5, 0.5])
    np.testing.assert_array_equal(line.get_markevery(), [0, 2])
    ticks = axis.xaxis.get_majorticklocs()
    assert {1.0, 1.25, 1.5, 1.75, 2.0, 4.0} <= set(ticks)
    assert axis.xaxis.get_major_formatter()(1.25, 0) == '1.25'


@pytest.mark.integration
def test_the_tool_takes_files_and_folders(tmp_path, root):
    tool = [sys.executable, str(root / 'tools' / 'analysis_tools' / 'compare_fronts.py')]
    (tmp_path / 'run' / '1').mkdir(parents=True)
    (tmp_path / 'run' / '1' / 'subnets.json').write_text(json.dumps([NARROW, WIDE]))
    (tmp_path / 'other.json').write_text(json.dumps([NARROW]))
    done = run([*tool, 'one=run', 'other=other.json', '-o', 'out.png'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and 'plot: out.png' in done.stdout, done.stderr
    assert (tmp_path / 'out.png').is_file()
    for arguments, message in (
        (['run'], "each run must be NAME=PATH, for example backbone=work_dirs/one/subnets.json, but got 'run'"),
        (['one=nothing'], 'there is no nothing: tools/test.py writes it into its work dir'),
    ):
        done = run([*tool, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0 and message in done.stderr and 'Traceback' not in done.stderr
