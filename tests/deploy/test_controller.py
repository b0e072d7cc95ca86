"""The latency controller under simulated and real load."""

import itertools
import math
import multiprocessing
import os
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsn.deploy import LatencyController, LatencyTable, StitchMenu
from mmsn.deploy.controller import PATIENCE
from mmsn.errors import UserError
from tests.deploy.tiny import tiny_model
from tests.tiny import tiny_anchor

FRONTIER = {0: 10.0, 7: 14.0, 3: 20.0, 5: 30.0, 1: 50.0}
frontiers = st.lists(st.floats(1, 500), min_size=1, max_size=12, unique=True).map(
    lambda times: dict(enumerate(sorted(times)))
)


def drive(controller, passes, load):
    """Run passes whose time is ``load(stitch, number)`` times that of the table."""
    table = dict(zip(controller.ids, controller._ms, strict=True))
    ran = []
    for number in range(passes):
        ran.append(controller.stitch)
        controller.observe(table[controller.stitch] * load(controller.stitch, number))
    return ran


def moves(ran):
    return sum(a != b for a, b in itertools.pairwise(ran))


@pytest.mark.parametrize(("target", "stitch"), [(9, 0), (10, 0), (29, 3), (30, 5), (1000, 1)])
def test_it_starts_with_the_dearest_that_fits_an_idle_machine(target, stitch):
    assert LatencyController(FRONTIER, target).stitch == stitch


@given(frontiers, st.floats(1, 1000), st.floats(0.3, 20))
def test_constant_load_ends_at_one_stitch_that_keeps_the_target(frontier, target, slow_down):
    controller = LatencyController(frontier, target)
    ran = drive(controller, 300, lambda *_: slow_down)
    last = ran[-1]
    assert set(ran[-100:]) == {last}
    fastest = min(frontier)
    assert last == fastest or slow_down * frontier[last] <= target * 1.001
    if last + 1 in frontier:  # and nothing more expensive stays clear of it
        assert slow_down * frontier[last + 1] >= target * 0.9 * 0.999


@settings(max_examples=40)
@given(frontiers, st.floats(1, 1000), st.floats(0.3, 20), st.data())
def test_noise_within_half_the_hysteresis_never_makes_it_oscillate(
    frontier, target, slow_down, data
):
    """After it has settled, any moves go one way only."""
    controller = LatencyController(frontier, target, hysteresis=0.1)
    drive(controller, 200, lambda *_: slow_down)
    seed = data.draw(st.randoms(use_true_random=False))
    ran = drive(controller, 300, lambda *_: slow_down * seed.uniform(0.951, 1.049))
    order = list(frontier)
    steps = {order.index(b) > order.index(a) for a, b in itertools.pairwise(ran) if a != b}
    assert len(steps) <= 1


def test_it_goes_down_under_load_and_comes_back():
    controller = LatencyController(FRONTIER, target_ms=50)
    ran = drive(controller, 120, lambda _, n: 3.0 if 40 <= n < 80 else 1.0)
    assert set(ran[:41]) == {1}
    assert set(ran[60:80]) == {7}  # 3 x 14 ms; 3 x 20 ms would miss the target
    assert ran[-1] == 5  # 50 ms is within the target, but not clear of it
    controller = LatencyController(FRONTIER, target_ms=56)
    assert drive(controller, 120, lambda _, n: 3.0 if 40 <= n < 80 else 1.0)[-1] == 1


def test_the_slow_down_is_learnt():
    controller = LatencyController(FRONTIER, target_ms=100)
    drive(controller, 50, lambda *_: 2.5)
    assert controller.slow_down == pytest.approx(2.5, rel=1e-3)


def test_steps_down_are_bounded_and_steps_up_are_single():
    frontier = {i: 10.0 + i for i in range(30)}
    controller = LatencyController(frontier, 39, max_steps=3)
    ran = drive(controller, 200, lambda _, n: 2.0 if n < 100 else 1.0)
    steps = [b - a for a, b in itertools.pairwise(ran)]
    assert min(steps) == -3
    assert max(steps) == 1


def test_load_that_weighs_more_on_the_dearer_stitch_is_tried_ever_more_rarely():
    controller = LatencyController(FRONTIER, target_ms=50)
    ran = drive(controller, 2000, lambda stitch, _: 2.0 if stitch == 5 else 1.4)
    climbs = [n for n in range(1, 2000) if (ran[n - 1], ran[n]) == (3, 5)]
    waits = [b - a for a, b in itertools.pairwise(climbs)]
    assert climbs
    assert moves(ran) < 30
    assert all(b > 1.5 * a for a, b in itertools.pairwise(waits))
    assert waits[0] > PATIENCE
    eased = drive(controller, 60, lambda *_: 1.0)  # it does not wait out its last term
    assert eased[-1] == 5


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (dict(latencies={}), "latencies {} are not allowed"),
        (dict(latencies={0: 2.0, 1: 1.0}), "from fast to slow"),
        (dict(latencies={0: math.nan}), "give milliseconds"),
        (dict(latencies={0: 1.0, 1: math.inf}), "give milliseconds"),
        (dict(target_ms=0), "target_ms 0"),
        (dict(target_ms=math.inf), "target_ms inf"),
        (dict(hysteresis=1.0), r"hysteresis 1\.0"),
        (dict(smoothing=0), "smoothing 0"),
        (dict(max_steps=0), "max_steps 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, fault):
    with pytest.raises(UserError, match=fault):
        LatencyController(**dict(latencies=FRONTIER, target_ms=20) | arguments)


@pytest.mark.parametrize("ms", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(ms):
    with pytest.raises(UserError, match="is not allowed"):
        LatencyController(FRONTIER, 20).observe(ms)


def _spin():
    while True:
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot bind to a core here")
@torch.no_grad()
def test_real_load_on_a_real_model():
    """Processes compete for the core that a model runs on; the controller steps down, and up again.

    What is asserted is the order of events, each waited for; no time is.
    """
    model = tiny_model(anchors=[tiny_anchor(16, 4), tiny_anchor(128, 8)])
    image, cores = torch.zeros(1, 3, 160, 160), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    hogs = [multiprocessing.get_context("fork").Process(target=_spin) for _ in range(6)]
    try:
        table = LatencyTable.measure(model, [0, 1], (160, 160), repeats=9)
        frontier = StitchMenu(model, latency_table=table, image_size=(160, 160)).frontier_ms()
        assert list(frontier) == [0, 1]
        controller = LatencyController(frontier, target_ms=2.5 * frontier[1], smoothing=0.1)

        def run_until(stitch):
            deadline = time.monotonic() + 60
            while controller.stitch != stitch:
                assert time.monotonic() < deadline, f"still at {controller.stitch}"
                start = time.perf_counter()
                with model.backbone.use_stitch(controller.stitch):
                    model(image, mode="tensor")
                controller.observe(1e3 * (time.perf_counter() - start))

        run_until(1)
        for hog in hogs:
            hog.start()
        run_until(0)
        for hog in hogs:
            hog.kill()
            hog.join()
        run_until(1)
    finally:
        os.sched_setaffinity(0, cores)
        for hog in hogs:
            if hog.is_alive():
                hog.kill()
