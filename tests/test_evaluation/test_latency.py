import re
import time
from itertools import pairwise

import pytest
import torch

from mmmutual.evaluation import Latency, measure_latency


@pytest.fixture
def clock(monkeypatch):
    """A clock that only advances when it is told to, in milliseconds."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now / 1e3

    clock = Clock()
    monkeypatch.setattr(time, 'perf_counter', clock)
    return clock


def test_median_and_percentile_of_the_timed_rounds(clock):
    """Round i takes i ms of key a: 2 to 12 without the two of the warm-up."""

    def call(key, index):
        clock.now += index if key == 'a' else 7

    latencies = measure_latency(call, ['a', 'b'], warmup=2, repeats=11)
    assert latencies['a'] == Latency(pytest.approx(7), pytest.approx(11))
    assert latencies['b'] == Latency(pytest.approx(7), pytest.approx(7))


def test_only_the_call_is_timed(clock):
    def pass_time(key):
        clock.now += 1000

    def call(key, index):
        clock.now += 1

    latency = measure_latency(call, ['a'], prepare=pass_time, on_call=pass_time)['a']
    assert latency == Latency(pytest.approx(1), pytest.approx(1))


def test_rounds_interleave_the_keys():
    calls, prepared, done = [], [], []
    keys = list(range(6))
    measure_latency(lambda *args: calls.append(args), keys, 2, 8, prepared.append, done.append)
    rounds = [[key for key, index in calls if index == number] for number in range(10)]
    assert [sorted(order) for order in rounds] == [keys] * 10
    assert any(a != b for a, b in pairwise(rounds))
    assert prepared == done == [key for key, _ in calls]


def test_drift_slows_all_alike(clock):
    """A machine that becomes three times slower in the middle: equal work measures equal."""
    spent = []

    def call(key, index):
        spent.append(key)
        clock.now += 1 if len(spent) <= 4 * 11 else 3

    latencies = measure_latency(call, 'abcd', warmup=0, repeats=20)
    assert list(latencies.values()) == [Latency(pytest.approx(1), pytest.approx(3))] * 4


def test_the_gpu_is_waited_for(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: events.append('wait'))
    measure_latency(lambda key, index: events.append('call'), ['a'], 0, 2)
    assert events == ['wait', 'call', 'wait'] * 2


@pytest.mark.parametrize(
    ('warmup', 'repeats', 'text'),
    [(0, 0, 'repeats must be at least 1, but got 0'), (-1, 3, 'warmup must be at least 0, but got -1')],
)
def test_wrong_numbers(warmup, repeats, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        measure_latency(lambda *args: None, ['a'], warmup, repeats)
