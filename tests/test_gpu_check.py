"""The check of a GPU, rehearsed on the CPU; its time limit, its tables and its findings."""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import gpu_check
from mmmutual.evaluation import Latency
from speed import device_checks, device_setting, device_training, latency, synchronised, waiting
from speed.budget import Budget
from speed.device_setting import PASSED, Fault, Setting, require_same, run_checks
from speed.table import Row
from speed.timing import take_turns

SETTING = Setting('cpu', image_size=64, iterations=1)
OPTIONS = gpu_check.make_options('cpu')
GRID = {
    (1.0, 1.0): Latency(30.04, 33.0),
    (1.0, 0.5): Latency(20.0, 21.0),
    (0.5, 1.0): Latency(9.0, 9.5),
    (0.5, 0.5): Latency(8.0, 8.25),
}


@pytest.mark.integration
def test_the_checks_pass_on_the_cpu(tmp_path, capsys):
    out = tmp_path / 'folder' / 'gpu_check.json'
    assert gpu_check.main(['--device', 'cpu', '--parts', '--out', str(out)]) == 0
    found = json.loads(out.read_text())
    assert found['checks'] == {name: PASSED for name in device_checks.CHECKS if name not in gpu_check.NOT_ON_CPU}
    assert found['torch'] == torch.__version__ and found['device'] and found['parts'] == {}
    assert 'test loop: passed' in capsys.readouterr().out.splitlines()


@pytest.mark.integration
def test_the_parts_run_on_the_cpu():
    parts = {name: gpu_check.PARTS[name] for name in ('waiting', 'latency')}  # test_benchmarks.py runs the others
    results = gpu_check.run_parts(parts, OPTIONS, Budget(math.inf))
    for result in results.values():
        json.dumps(gpu_check.as_json(result))
        assert gpu_check.as_report(result).count('\n') > 3, result
    assert results['latency'].keys() == {(width, scale) for width in OPTIONS.widths for scale in (1.0, 0.8, 0.6, 0.4)}
    shares = [value for row in results['waiting'] for value in row.values]
    assert len(shares) == 2 and all(0 <= share < 100 for share in shares)


@pytest.mark.integration
def test_mixed_precision(monkeypatch):
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    device_training.check_bfloat16(SETTING)
    monkeypatch.setattr('torch.optim.SGD.step', lambda *args, **kwargs: None)
    with pytest.raises(Fault, match='no step in 8 iterations of bfloat16; the loss scale is 1'):
        device_training.check_bfloat16(SETTING)


def test_without_a_gpu_it_says_so_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert gpu_check.main([]) == gpu_check.NO_DEVICE == 3
    assert capsys.readouterr().out.startswith(f'no CUDA device: torch {torch.__version__} ')
    monkeypatch.setattr('torch.version.cuda', '13.0')
    assert gpu_check.missing_device().endswith('finds no GPU; make gpu-check needs one')
    monkeypatch.setattr('torch.version.cuda', None)
    assert gpu_check.missing_device().endswith('is built without CUDA; make gpu-check needs one')


def test_a_failed_check_does_not_stop_the_others():
    def fault(setting):
        raise Fault('the losses differ')

    def error(setting):
        raise RuntimeError('\nout of memory\nand more')

    reported = []
    checks = dict(fault=fault, error=error, silent=lambda setting: 1 / 0, good=lambda setting: None)
    results = run_checks(SETTING, checks, lambda *result: reported.append(result))
    assert (
        results
        == dict(reported)
        == {
            'fault': 'the losses differ',
            'error': 'RuntimeError: out of memory',
            'silent': 'ZeroDivisionError: division by zero',
            'good': PASSED,
        }
    )


def test_the_exit_status_tells_what_failed(monkeypatch, tmp_path, capsys):
    broken = gpu_check.Part(lambda options: 1 / 0, needed=0, most=1)
    monkeypatch.setattr(gpu_check, 'CHECKS', dict(good=lambda setting: None))
    monkeypatch.setattr(gpu_check, 'PARTS', dict(iteration=broken, waiting=replace(broken, needed=math.inf)))
    arguments = ['--device', 'cpu', '--out', str(tmp_path / 'out.json'), '--parts']
    assert gpu_check.main(arguments) == 0
    assert gpu_check.main([*arguments, 'waiting']) == 0  # a part that is left out is not a fault
    assert gpu_check.main([*arguments, 'iteration']) == gpu_check.FAILED == 1
    assert capsys.readouterr().out.endswith('out.json; failed: iteration\n')
    assert json.loads((tmp_path / 'out.json').read_text())['parts'] == {
        'iteration': 'failed: ZeroDivisionError: division by zero'
    }
    monkeypatch.setattr(gpu_check, 'CHECKS', dict(bad=lambda setting: 1 / 0))
    assert gpu_check.main(arguments) == 1


def test_parts_without_time_are_left_out():
    now = [0.0]
    budget = Budget(100, clock=lambda: now[0])

    def measure(options):
        now[0] += 30
        return [Row('until', (options.until,))]

    parts = {name: gpu_check.Part(measure, needed, most=50) for name, needed in (('a', 60), ('b', 80), ('c', 40))}
    results = gpu_check.run_parts(parts, OPTIONS, budget)
    assert results['a'][0].values == (50.0,)
    assert results['b'] == 'b is left out: it needs 80 s, and 70 of 100 s are left'
    assert results['c'][0].values == (80.0,)
    now[0] = 90.0
    assert budget.until(50) == 100.0
    now[0] = 200.0
    assert budget.left == 0.0


def test_rounds_end_with_the_time():
    calls = dict(one=lambda: None)
    assert len(take_turns(calls, rounds=5, until=0.0)['one']) == 1
    assert len(take_turns(calls, rounds=5)['one']) == 5


def test_latencies_are_a_table_of_widths_and_scales():
    lines = latency.as_grid(GRID).splitlines()
    assert [line.split('|')[1:-1] for line in lines if '|' in line] == [
        [' median ms (90 %) ', ' scale 1     ', ' scale 0.5   '],
        [' width 1          ', ' 30.0 (33.0) ', ' 20.0 (21.0) '],
        [' width 0.5        ', ' 9.0 (9.5)   ', ' 8.0 (8.2)   '],
    ]
    assert latency.as_dicts(GRID)[1] == dict(width=1.0, scale=0.5, median_ms=20.0, p90_ms=21.0)


def test_time_of_kernels_that_overlap_counts_once():
    assert waiting.union([(5, 6), (0, 2), (1, 4), (3, 3.5)]) == 5
    assert waiting.union([]) == 0


def test_a_device_without_kernels_is_an_error(monkeypatch):
    silent = SimpleNamespace(events=list)
    monkeypatch.setattr(waiting, 'profile', lambda activities: nullcontext(silent))
    with pytest.raises(RuntimeError, match='the profiler has seen no work on cpu: is CUPTI there'):
        waiting.busy_time(lambda: None, 'cpu')


def test_missing_operators_are_named(monkeypatch):
    def missing(*args):
        raise RuntimeError('nms_impl: implementation for device cuda:0 not found.\n')

    monkeypatch.setattr(device_setting, 'nms', missing)
    names = ('operators of mmcv', 'mutual iterations', 'test loop', 'float16', 'AdaptiveInferencer')
    results = run_checks(SETTING, {name: device_checks.CHECKS[name] for name in names})
    for reason in results.values():
        assert reason.startswith(
            'mmcv has no operators for cpu (RuntimeError: nms_impl: implementation for device cuda:0'
        )
        assert 'FORCE_CUDA=1 MMCV_WITH_OPS=1 pip install' in reason
    monkeypatch.setattr(device_setting, 'nms', lambda boxes, *args: (boxes, torch.arange(3)))
    with pytest.raises(Fault, match=r'the NMS of mmcv keeps the boxes \[0, 1, 2\], but should keep \[0, 2\]'):
        device_setting.check_operators(SETTING)


def test_differences_are_faults(monkeypatch):
    reference = {'a': torch.tensor([2.0]), 'b': torch.tensor([4.0])}
    require_same({name: value * 1.0001 for name, value in reference.items()}, reference)
    for wrong in (4.04, math.nan):
        with pytest.raises(Fault, match='b differs from its reference by .*, which should be at most 0.001'):
            require_same({**reference, 'b': torch.tensor([wrong])}, reference)
    found = iter([[[1.0, 2.0], [1.0, 2.1]], [[1.001, 2.0], [1.0, 2.0]]])
    monkeypatch.setattr(device_training, '_losses', lambda setting: next(found))
    with pytest.raises(Fault, match='losses of iteration 2 are 1.0000, 2.1000, those of the CPU 1.0000, 2.0000'):
        device_training.check_iterations(SETTING)
    scores = iter([[0.5, 0.4], [0.5, 0.2]])
    monkeypatch.setattr(device_checks, '_best_scores', lambda setting: next(scores))
    with pytest.raises(Fault, match='the best scores of two sub-networks are 0.5000, 0.4000, those of the CPU 0.5000'):
        device_checks.check_inferencer(SETTING)


def test_a_test_loop_without_numbers_is_a_fault(monkeypatch):
    def run(loop):
        loop.results = {'w1_s1': {'bbox_mAP': math.nan}}

    monkeypatch.setattr(device_checks.SubnetTestLoop, 'run', run)
    with pytest.raises(Fault, match='should find numbers for 4 sub-networks, but has found .*nan'):
        device_checks.check_test_loop(SETTING)


@pytest.mark.integration
def test_processes_that_differ_or_hang_are_faults(monkeypatch):
    monkeypatch.setattr(synchronised, '_compare', _differ)
    with pytest.raises(Fault, match='^ValueError: the statistics of process 0 differ$'):
        synchronised.check_synchronised('cpu')
    monkeypatch.setattr(synchronised, '_compare', _hang)
    monkeypatch.setattr(synchronised, 'SECONDS', 0)
    with pytest.raises(Fault, match='two processes with SlimSyncBN did not end within 0 s'):
        synchronised.check_synchronised('cpu')


def _differ(rank: int, *args) -> None:
    if rank == 0:
        raise ValueError(f'the statistics of process {rank} differ')
    time.sleep(100)


def _hang(*args) -> None:
    time.sleep(100)


def test_checks_run_with_cudnn_in_full_precision():
    former, seen = (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32), []

    def look(setting):
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))

    assert run_checks(SETTING, dict(look=look)) == dict(look=PASSED)
    assert seen == [(True, False, True)]
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == former
