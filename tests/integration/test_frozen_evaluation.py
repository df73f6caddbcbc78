"""The evaluation keeps sliced weights while it runs batches, and not while it calibrates; latency is measured so too."""

import pytest
import torch

import mmmutual
from mmmutual.engine.loops import subnet_loops
from mmmutual.evaluation.query_table import fill
from tests.support.tiny import build_runner, tiny_config

pytestmark = pytest.mark.integration
WIDTHS = (1.0, 0.5)


def is_kept(model) -> bool:
    states = {layer._kept is not None for layer in mmmutual.layers.slimmable_layers(model)}
    assert len(states) == 1
    return states.pop()


@pytest.fixture
def runner(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.val_cfg.update(widths=WIDTHS, scales=(1.0, 0.5), calibration_batches=1)
    runner = build_runner(config)
    runner.model.init_weights()
    return runner


def test_a_loop_keeps_weights_between_batches_only(runner, monkeypatch):
    seen = []

    def calibrate(*args):
        seen.append(('calibration', is_kept(runner.model)))
        return mmmutual.calibrate(*args)

    def step(data):
        seen.append(('batch', is_kept(runner.model)))
        return type(runner.model).val_step(runner.model, data)

    monkeypatch.setattr(subnet_loops, 'calibrate', calibrate)
    monkeypatch.setattr(runner.model, 'val_step', step)
    runner.val()
    assert set(seen) == {('calibration', False), ('batch', True)} and not is_kept(runner.model)


def test_a_loop_predicts_the_same_with_and_without(runner, monkeypatch):
    mmmutual.calibrate(runner.model, list(runner.train_dataloader)[:2])
    runner.val_loop.calibration_batches = 0  # which draws its images
    kept = runner.val()
    monkeypatch.setattr(subnet_loops, 'frozen', lambda model: torch.no_grad())
    assert runner.val() == kept


def test_latency_is_measured_with_kept_weights(runner, monkeypatch):
    seen = []
    monkeypatch.setattr(fill, 'measure_latency', lambda *args, **options: seen.append(is_kept(runner.model)) or {})
    fill._time(runner.model, runner.cfg, (), repeats=1)
    assert seen == [True] and not is_kept(runner.model)
