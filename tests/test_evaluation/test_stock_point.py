"""The evaluation of the stock detector that an elastic one is made from."""

import sys
from types import SimpleNamespace

from mmengine.config import Config

from mmmutual.evaluation import stock_point

module = sys.modules['mmmutual.evaluation.stock_point']  # the package has the function under this name


def test_its_own_statistics_are_evaluated_once(tmp_path, monkeypatch):
    runs = []

    def build_runner(config):
        runs.append(config)
        return SimpleNamespace(test=lambda: None, test_loop=None)

    monkeypatch.setattr(module, 'build_runner', build_runner)
    monkeypatch.setattr(module, 'subnet_rows', lambda loop: [dict(width=1.0)])
    monkeypatch.setattr(module, 'identity', lambda config, checkpoint: dict(checkpoint=str(checkpoint)))
    test_cfg = dict(type='SubnetTestLoop', num_widths=4, scales=(1.0, 0.5), calibration_batches=10)
    config = Config(dict(work_dir=str(tmp_path), test_cfg=test_cfg, load_from=None, resume=True))
    for _ in range(2):
        assert stock_point(config, 'stock.pth') == dict(width=1.0)
    (run,) = runs
    assert (run.work_dir, run.load_from, run.resume) == (str(tmp_path / 'stock'), 'stock.pth', False)
    assert run.test_cfg == dict(
        type='SubnetTestLoop', num_widths=4, widths=(1.0,), scales=(1.0,), calibration_batches=0, report=False
    )
    assert config.test_cfg == test_cfg
