"""Choosing stitches by budget: which one, who sees it, and what a switch costs."""

import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model
from torch.utils._python_dispatch import TorchDispatchMode

from mmsn.deploy import LatencyTable, StitchMenu, select, use_budget
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.models import build, segmentor_macs, segmentor_params
from tests.conftest import ROOT
from tests.deploy.tiny import SIZE, tiny_config, tiny_model, tiny_report
from tests.tiny import tiny_anchor


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def table(model):
    """Made up: the cheaper a stitch, the slower."""
    measured = LatencyTable.measure(model, [0], (SIZE, SIZE), repeats=1)
    macs = segmentor_macs(model, (SIZE, SIZE))
    order = sorted(macs, key=macs.__getitem__, reverse=True)
    stitches = [
        dict(id=i, macs=macs[i], latency=dict(p50_ms=10.0 + k, p90_ms=99.0, repeats=1))
        for k, i in enumerate(order)
    ]
    return LatencyTable(**measured.model_dump() | dict(stitches=stitches))


@pytest.mark.parametrize("kind", ["macs", "percent", "params"])
def test_without_a_report_it_is_the_largest_that_fits(model, kind):
    macs, params = segmentor_macs(model, (SIZE, SIZE)), segmentor_params(model)
    most = max(macs.values())
    menu = StitchMenu(model)
    for limit in range(30, 101, 10):
        if kind == "params":
            amount = limit * max(params.values()) / 100
            text, fits = f"{amount / 1e6!r}Mparams", {i for i in params if params[i] <= amount}
        else:
            text = f"{limit}%" if kind == "percent" else f"{limit * most / 1e11!r}G"
            fits = {i for i in macs if 100 * macs[i] <= limit * most}
        if not fits:
            with pytest.raises(UserError, match=f"budget {text} is below the cheapest"):
                menu.select(text)
            continue
        chosen = menu.select(text)
        assert chosen.macs == max(macs[i] for i in fits)
        assert chosen.params == params[chosen.stitch.id]
        assert chosen.why == f"largest that fits {text}"
        assert (chosen.metric, chosen.score, chosen.latency_ms) == (None, None, None)


@pytest.mark.parametrize(("metric", "sign"), [("mIoU", 1), ("rmse", -1), ("depth/rmse", -1)])
def test_with_a_report_it_is_the_best_measured_within(model, metric, sign):
    macs = segmentor_macs(model, (SIZE, SIZE))
    rng = np.random.default_rng(0)
    scores = {i: float(rng.integers(3)) for i in macs if i % 3}  # many equal, some not measured
    scores[1] = float("nan")
    report, most = tiny_report(model, scores, metric), max(macs.values())
    for percent in (60, 80, 100):
        chosen = select(model, f"{percent}%", report)
        fits = [i for i in scores if 100 * macs[i] <= percent * most and i != 1]
        best = max(sign * scores[i] for i in fits)
        assert sign * chosen.score == best
        assert chosen.macs == min(macs[i] for i in fits if sign * scores[i] == best)
        assert chosen.why == f"best measured {metric} within {percent}%"
        assert f"{metric} {chosen.score:.4g} (best measured" in str(chosen)


def test_latency_is_looked_up(model, table):
    menu = StitchMenu(model, latency_table=table)
    chosen = menu.select("12.5ms")
    assert chosen.latency_ms <= 12.5
    assert chosen.macs == max(menu.macs.values())  # the most expensive is the fastest here
    assert chosen.why == "largest that fits 12.5ms"
    with pytest.raises(UserError, match=r"budget 9ms is below .*: give 10ms to \d+ms"):
        menu.select("9ms")
    with pytest.raises(UserError, match="needs a latency table of this device"):
        select(model, "12.5ms")


def test_a_frontier_by_latency(model, table):
    assert list(StitchMenu(model, latency_table=table).frontier_ms().values()) == [10.0]
    order = sorted(table.stitches, key=lambda s: s.latency.p50_ms)
    scores = {s.id: float(k // 2) for k, s in enumerate(order)}  # the slower, the better
    menu = StitchMenu(model, tiny_report(model, scores), table)
    assert menu.frontier_ms() == {s.id: s.latency.p50_ms for s in order[::2]}


def test_by_id(model):
    chosen = select(model, 4)
    assert (chosen.stitch, chosen.why) == (model.backbone.space[4], "by id")
    with pytest.raises(UserError, match="stitch 9999 is unknown"):
        select(model, 9999)


@pytest.mark.parametrize("budget", ["100", "40M", 0.3])
def test_what_has_no_unit_is_refused(model, budget):
    with pytest.raises(UserError, match="write '400G'"):
        select(model, budget)


def test_a_budget_above_the_most_expensive_stitch_is_met_by_it(model, table):
    macs, params = segmentor_macs(model, (SIZE, SIZE)), segmentor_params(model)
    ends = dict(G=max(macs.values()) / 1e9, Mparams=max(params.values()) / 1e6)
    ends |= {"%": 100, "ms": max(s.latency.p50_ms for s in table.stitches)}
    menu = StitchMenu(model, latency_table=table)
    for unit, end in ends.items():
        chosen = menu.select(f"500{unit}")
        assert chosen.macs == max(macs.values())
        assert chosen.why.startswith(f"largest that fits 500{unit}, which is above the most ")
        named = float(chosen.why.split()[-1].removesuffix(unit))
        assert named == pytest.approx(end, rel=1e-3)
        assert "above" not in menu.select(f"{end!r}{unit}").why
    scores = dict.fromkeys(macs, 1.0) | {0: 2.0}  # the best is not the most expensive
    chosen = select(model, "500G", tiny_report(model, scores))
    assert chosen.stitch.id == 0
    assert "best measured mIoU within 500G, which is above the most expensive" in chosen.why
    with menu.use("500G") as selection:
        assert model.backbone.stitch == selection.stitch


def test_reports_of_other_models_are_refused(model):
    report = tiny_report(model, {0: 1.0, 1: 2.0, 4: 3.0})
    other_depths = tiny_model(out_indices=(1, 3), anchors=model_anchors((16, 2), (24, 4)))
    with pytest.raises(UserError, match="of another stitching space: its stitch 0 runs 0:0-4"):
        StitchMenu(other_depths, report)
    other_widths = tiny_model(anchors=model_anchors((8, 4), (24, 8)))
    with pytest.raises(UserError, match="of another model: its stitch 0 has"):
        StitchMenu(other_widths, report)
    with pytest.raises(UserError, match=r"metric 'aAcc' is not in 'tiny': use mIoU"):
        StitchMenu(model, report, metric="aAcc")


def model_anchors(*sizes):
    return [tiny_anchor(*size) for size in sizes]


def test_nothing_measured_within_the_budget(model):
    report = tiny_report(model, {1: 2.0})
    with pytest.raises(UserError, match="no stitch within 60% was measured: the cheapest in the"):
        select(model, "60%", report)


def test_a_report_that_cannot_decide_is_refused(model, table):
    with pytest.raises(UserError, match="has no number for mIoU"):
        StitchMenu(model, tiny_report(model, {0: float("nan")}))
    only_one = table.model_copy(update=dict(stitches=table.stitches[:1]))
    other = table.stitches[1].id
    with pytest.raises(UserError, match="measured none of the stitches that the latency table"):
        StitchMenu(model, tiny_report(model, {other: 1.0}), only_one)


def test_use_and_set(model):
    menu = StitchMenu(model)
    small, middle = menu.select("50%").stitch, menu.select("80%").stitch
    assert len({small, middle, model.backbone.space[1]}) == 3
    menu.set("80%")
    with use_budget(model, "50%") as selection:
        assert selection.stitch == model.backbone.stitch == small
    assert model.backbone.stitch == middle
    menu.set(1)


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer, such as coverage, allocates")
def test_a_switch_allocates_nothing(model):
    """No operator is called, and after a thousand switches Python holds what it held before."""
    operators = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            operators.append(function)
            return function(*args, **(kwargs or {}))

    ids = [StitchMenu(model).select(text).stitch.id for text in ("50%", "80%", "100%")]

    def switch():
        for stitch in ids:
            model.backbone.set_stitch(stitch)
            with model.backbone.use_stitch(stitch):
                pass

    with Record():
        torch.zeros(1)
        assert len(operators) == 1  # the recorder records
        switch()
    assert len(operators) == 1
    switch()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            switch()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000  # bytes, of tracemalloc's own
    assert peak - before < 5000  # a context manager or two


def pictures(count):
    return np.random.default_rng(0).integers(0, 255, (count, 40, 48, 3)).astype(np.uint8)


BUDGETS = ("50%", "70%", "85%", "100%")


def test_requests_in_threads_are_answered_as_one_by_one(model):
    """Four at a time, through mmseg's own ``inference_model``, all holding a stitch at once."""
    menu, images = StitchMenu(model), pictures(3)
    all_hold_one = threading.Barrier(4, timeout=60)

    def answer(image, budget):
        with menu.use(budget):
            return inference_model(model, image).seg_logits.data

    def serve(worker):
        answers = []
        for image in images:
            with menu.use(BUDGETS[worker]):
                all_hold_one.wait()
                answers.append(inference_model(model, image).seg_logits.data)
        return answers

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(serve, range(4)))
    expected = [[answer(image, budget) for image in images] for budget in BUDGETS]
    for mine, alone in zip(got, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, alone, strict=True))
    assert not torch.equal(expected[0][0], expected[3][0])


def test_the_inferencer_runs_the_chosen_stitch():
    inferencer = MMSegInferencer(
        tiny_config(), classes=list("abcde"), palette=[[9 * i] * 3 for i in range(5)], device="cpu"
    )
    inferencer.model.decode_head.conv_seg.weight.data.normal_()
    ran = []
    inferencer.model.backbone.register_forward_pre_hook(
        lambda module, _: ran.append(module.stitch.id)
    )
    menu, image = StitchMenu(inferencer.model), pictures(1)[0]
    menu.set("70%")
    first = inferencer(image)["predictions"]
    with menu.use("50%") as selection:
        second = inferencer(image)["predictions"]
    assert ran == [menu.select("70%").stitch.id, selection.stitch.id]
    expected = inference_model(inferencer.model, image).pred_sem_seg.data[0].numpy()
    assert np.array_equal(first, expected)
    assert first.shape == second.shape == (40, 48)


def test_the_published_curve_chooses_for_the_published_config():
    """Its report is taken by a model of that config, and by no other."""

    report = ParetoReport.load(ROOT / "docs/results/published_ade20k_deit3-s-l.json")
    folder, name = ROOT / "configs", "8xb2-160k_ade20k-512x512.py"
    for path, fits in (
        (f"published/snnetv2_deit3-s-l-r16-relpos_setr-naive_{name}", True),
        (f"setr/snnetv2_deit3-b-l-r4_setr-naive_{name}", False),
    ):
        model = build(Config.fromfile(folder / path), "meta")
        if fits:
            chosen = select(model, "100G", report)
            assert (chosen.stitch.id, chosen.score) == (91, 46.75)
        else:
            with pytest.raises(UserError, match="of another model"):
                select(model, "100G", report)
