"""Latencies: how they are taken, what their tables hold, and where tables are refused."""

import json
import warnings

import pytest
import torch

from mmsn.deploy import LatencyTable, StitchMenu
from mmsn.errors import UserError
from mmsn.evaluation import latency as latency_module
from mmsn.evaluation.latency import disagreements, time_interleaved
from mmsn.evaluation.report import Latency
from tests.deploy.tiny import SIZE, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def table(model):
    return LatencyTable.measure(model, [0, 1, 4], (SIZE, SIZE), title="tiny", repeats=3)


def test_a_table_survives_its_file_and_its_fields_are_pinned(table, tmp_path):
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json") == table
    content = json.loads((tmp_path / "t.json").read_text())
    assert list(content) == [
        "schema_version",
        "title",
        "torch_version",
        "image_size",
        "setting",
        "stitches",
    ]
    assert list(content["setting"]) == ["device", "dtype", "batch_size", "threads"]
    assert list(content["stitches"][0]) == ["id", "macs", "latency"]
    assert [s["id"] for s in content["stitches"]] == [0, 1, 4]
    (tmp_path / "t.json").write_text(json.dumps(content | {"schema_version": 2}))
    with pytest.raises(UserError, match=r"t\.json is not a latency table: schema_version"):
        LatencyTable.load(tmp_path / "t.json")


def test_it_is_taken_where_it_was_measured(model, table):
    menu = StitchMenu(model, latency_table=table)
    assert menu.latency_ms == {s.id: s.latency.p50_ms for s in table.stitches}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (dict(torch_version="1.13.0"), r"torch 1\.13\.0 there, "),
        (dict(image_size=(SIZE, 64)), r"image size \(32, 64\) there, \(32, 32\) here"),
        (dict(device="cpu (a toaster)"), r"device cpu \(a toaster\) there, cpu \("),
        (dict(dtype="float16"), "dtype float16 there, float32 here"),
        (dict(batch_size=8), "batch_size 8 there, 1 here"),
        (dict(threads=64), "threads 64 there, "),
    ],
)
def test_another_setting_is_refused_unless_forced(model, table, change, fault):
    setting = {k: v for k, v in change.items() if k not in ("torch_version", "image_size")}
    whole = {k: v for k, v in change.items() if k not in setting}
    macs = StitchMenu(model, image_size=change.get("image_size")).macs
    other = table.model_copy(
        update=whole
        | dict(
            setting=table.setting.model_copy(update=setting),
            stitches=[s.model_copy(update=dict(macs=macs[s.id])) for s in table.stitches],
        )
    )
    with pytest.raises(UserError, match=fault) as caught:
        StitchMenu(model, latency_table=other)
    assert str(caught.value).count("there") == 1  # nothing else is different
    assert StitchMenu(model, latency_table=other, force=True).latency_ms


def test_autocast_is_another_setting(model, table):
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UserError, match="bfloat16 here"):
        StitchMenu(model, latency_table=table)


def test_another_model_is_refused_even_if_forced(table):
    other = tiny_model(rank=4)
    with pytest.raises(UserError, match="is of another model: its stitch 0 takes"):
        StitchMenu(other, latency_table=table, force=True)


def test_a_time_that_is_no_number_is_refused(table, tmp_path):
    latency = table.stitches[0].latency
    for value in ("Infinity", "NaN"):
        text = table.model_dump_json().replace(f'"p50_ms":{latency.p50_ms!r}', f'"p50_ms":{value}')
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(UserError, match=r"is not a latency table: stitches.0.latency.p50_ms"):
            LatencyTable.load(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s[0].update(macs=10**309), "stitches.0.macs: .*less than or equal to 92233"),
        (lambda s: s[1].update(id=2**64), "stitches.1.id"),
        (lambda s: s[1].update(id=-1), "stitches.1.id: .*got -1"),
        (lambda s: s[0]["latency"].update(repeats=10**400), "stitches.0.latency.repeats"),
        (
            lambda s: s[2].update(id=0, latency=dict(p50_ms=7.0, p90_ms=8.0, repeats=3)),
            r"the whole file: stitch 0 is listed twice, with .* and 7\.0 ms; keep one entry",
        ),
    ],
)
def test_numbers_that_are_none_and_doubled_ids_are_refused(table, tmp_path, change, reason):
    content = json.loads(table.model_dump_json())
    change(content["stitches"])
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"is not a latency table: {reason}"):
        LatencyTable.load(tmp_path / "t.json")


def test_the_text_shows_the_spread_beside_the_median(table):
    timed = table.stitches[1].model_copy(
        update=dict(latency=Latency(p50_ms=20.0, p90_ms=27.0, repeats=9))
    )
    text = table.model_copy(update=dict(stitches=[timed])).text()
    (row,) = [line for line in text.splitlines() if "│ " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["1", f"{timed.macs / 1e9:.4g}", "20", "27", "35%", "9"]


@pytest.mark.parametrize(
    ("times", "halves"),
    [
        ([10, 10, 10, 12.1, 12.1, 12.1], (10, 12.1)),
        ([12.1, 12.1, 12.1, 10, 10, 10], (12.1, 10)),
        ([10, 10, 10, 11.9, 11.9, 11.9], None),
        ([10, 10, 99, 10, 10], None),  # the middle one is in neither half
        ([10, 99, 10, 10, 10, 10], None),  # one slow pass of three moves no median
        ([10, 10, 20, 20], (10, 20)),
        ([10, 20, 30], None),
        ([], None),
    ],
)
def test_halves_that_disagree_are_found(times, halves):
    assert disagreements({4: times}) == ({} if halves is None else {4: halves})


def timed_by(monkeypatch, lengths):
    """Time three calls by a clock that only they advance, in milliseconds by name and round."""
    now, rounds = [0.0], dict.fromkeys(lengths, 0)

    def run(name):
        now[0] += lengths[name][rounds[name]] / 1e3
        rounds[name] += 1

    monkeypatch.setattr(latency_module.time, "perf_counter", lambda: now[0])
    passes = {name: (lambda name=name: run(name)) for name in lengths}
    repeats = len(next(iter(lengths.values()))) - 1
    return time_interleaved(passes, torch.device("cpu"), repeats, warm_up=1)


def test_median_and_percentile_are_those_of_the_passes_after_the_warm_up(monkeypatch):
    found = timed_by(monkeypatch, {"a": [999, *range(100, 111)]})
    assert found["a"].p50_ms == pytest.approx(105.0)
    assert found["a"].p90_ms == pytest.approx(109.0)
    assert found["a"].repeats == 11


def test_a_machine_that_slows_down_is_warned_of(monkeypatch):
    slowing = {3: [9, 10, 10, 13, 13], 5: [9, 10, 10, 15, 15], 7: [9, 10, 10, 10, 10]}
    line = r"measurements of 5 differ by more than 20%: 10 ms in .*, 15 ms .* and 1 others differ"
    with pytest.warns(UserWarning, match=line) as caught:
        timed_by(monkeypatch, slowing)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timed_by(monkeypatch, {7: slowing[7]})
