"""The latency controller, in the simulation that benchmarks/controller_simulation.py draws."""

from statistics import fmean, median

import pytest

from benchmarks.controller_simulation import STEADY, TARGET_MS, make_subnets, recovery, simulate, split, switches
from mmmutual.evaluation import MeasuredSubnet
from mmmutual.inference import LatencyController


def controller(subnets=None, target_ms=TARGET_MS, **kwargs) -> LatencyController:
    return LatencyController(subnets or make_subnets(), target_ms, **kwargs)


def subnet(latency_ms: float) -> MeasuredSubnet:
    return MeasuredSubnet(
        width=1.0, scale=1.0, multiply_adds=1, parameters=1, metrics={'box mAP': 0.4}, latency_ms=latency_ms
    )


@pytest.mark.parametrize('seed', range(20))
def test_the_target_is_held_while_the_load_comes_and_goes(seed):
    for phase in split(simulate(controller(), seed=seed)):
        steady = phase[-STEADY:]
        assert median(frame.latency_ms for frame in steady) == pytest.approx(TARGET_MS, rel=0.1)
        assert switches(steady) <= 2
        assert recovery(phase, TARGET_MS) <= 20


@pytest.mark.parametrize('seed', range(20))
def test_the_mean_is_held_too_where_no_frame_is_an_outlier(seed):
    for phase in split(simulate(controller(), seed=seed, spikes=0)):
        assert fmean(frame.latency_ms for frame in phase[-STEADY:]) == pytest.approx(TARGET_MS, rel=0.1)


def test_without_noise_it_settles_on_the_best_subnet_that_fits():
    for phase in split(simulate(controller(), jitter=0, spikes=0)):
        chosen = {frame.subnet.latency_ms for frame in phase[20:]}
        fitting = [subnet for subnet in make_subnets() if phase[0].load * subnet.latency_ms <= 0.98 * TARGET_MS]
        assert chosen == {fitting[-1].latency_ms}


@pytest.mark.parametrize('wrong', (1.1, 1.3, 2.0))
def test_a_table_that_is_wrong_for_one_subnet_is_no_reason_to_flap(wrong):
    subnets = [subnet(40.0), subnet(50.0)]
    held = controller(subnets, 52.0)
    frames = []
    for _ in range(1000):
        frames.append(held.subnet)
        held.update(held.subnet.latency_ms * (wrong if held.subnet == subnets[1] else 1.0))
    changes = [index for index in range(1, 1000) if frames[index] != frames[index - 1]]
    assert len(changes) <= 16  # each climb waits twice as long as the one before: 5, 10, 20, ... frames
    assert frames[-200:].count(subnets[0]) > 150


def test_after_an_undone_climb_a_change_of_load_is_still_followed():
    subnets = [subnet(20.0), subnet(40.0), subnet(50.0)]
    held = controller(subnets, 52.0)
    for _ in range(1000):
        held.update(held.subnet.latency_ms * (1.3 if held.subnet == subnets[2] else 1.0))
    assert held.subnet == subnets[1]
    for load, expected in ((2.0, subnets[0]), (1.0, subnets[1])):
        for _ in range(20):
            held.update(load * held.subnet.latency_ms)
        assert expected.latency_ms * load <= 52.0 and held.subnets.index(held.subnet) >= held.subnets.index(expected)


def test_single_outliers_and_slow_first_frames_change_nothing():
    held = controller(target_ms=60.0)
    start = held.subnet
    for factor in (20.0, 5.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0):
        assert held.update(factor * start.latency_ms) == start


def test_where_no_subnet_fits_the_fastest_runs_until_one_does():
    held = controller(target_ms=60.0)
    for _ in range(10):
        held.update(10 * held.subnet.latency_ms)
    assert held.subnet == held.subnets[0]
    for _ in range(20):
        held.update(held.subnet.latency_ms)
    assert held.subnet.latency_ms == pytest.approx(60, rel=0.1)
    assert controller(target_ms=1.0).subnet == make_subnets()[0]


def test_the_target_may_change():
    held = controller(target_ms=60.0)
    held.target_ms = 30.0
    for _ in range(10):
        held.update(held.subnet.latency_ms)
    assert 25 < held.subnet.latency_ms <= 30
    held.target_ms = 60.0
    for _ in range(10):
        held.update(held.subnet.latency_ms)
    assert 54 < held.subnet.latency_ms <= 60


def test_the_load_is_that_of_the_machine():
    held = controller()
    for _ in range(30):
        held.update(1.25 * held.subnet.latency_ms)
    assert held.load == pytest.approx(1.25)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(target_ms='fast'), TypeError, "target_ms must be a number of milliseconds above 0, but got 'fast'"),
        (dict(target_ms=True), TypeError, 'target_ms must be a number of milliseconds above 0, but got True'),
        (dict(target_ms=0), ValueError, 'target_ms must be a number of milliseconds above 0, but got 0'),
        (dict(target_ms=float('inf')), ValueError, 'target_ms must be a number of milliseconds above 0, but got inf'),
        (dict(target_ms=float('nan')), ValueError, 'target_ms must be a number of milliseconds above 0, but got nan'),
        (dict(window=4), ValueError, 'window must be at least 5 frames, but got 4'),
        (dict(window=9.5), TypeError, 'window must be a whole number, but got 9.5'),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        controller(**arguments)


@pytest.mark.parametrize('latencies', ([], [None], [30.0, None], [30.0, 20.0]))
def test_subnets_without_rising_latencies_are_refused(latencies):
    with pytest.raises(ValueError, match=r"subnets must have latencies in rising order.*front\('latency_ms'\)"):
        LatencyController([subnet(latency) for latency in latencies], 30.0)


@pytest.mark.parametrize(('latency', 'error'), [(0, ValueError), (-1.0, ValueError), (None, TypeError)])
def test_a_latency_that_is_none_is_refused(latency, error):
    with pytest.raises(error, match='latency_ms must be a number of milliseconds above 0, but got'):
        controller().update(latency)
