"""Damaged reports and latency tables: every one is refused in one line, or is a valid file."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, markdown_table, text_table
from mmsn.evaluation.latency import LatencyTable, TimedStitch
from mmsn.evaluation.report import LatencySetting
from tests.evaluation.reports import FAST, report, result

SETTING = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
TIMED = result(1, 70, 2.5).model_copy(update=dict(latency=FAST))
REPORT = report(result(0, 50, 1.5), TIMED, latency_setting=SETTING)
TABLE = LatencyTable(
    title="t",
    torch_version="2.0",
    image_size=(32, 32),
    setting=SETTING,
    stitches=[TimedStitch(id=i, macs=10 + i, latency=FAST) for i in range(2)],
)
FILES = {"report": (ParetoReport, REPORT), "table": (LatencyTable, TABLE)}
# What a hand or another program may have written in place of a value.
WRONG = [
    None, True, -1, 0, 1, 2**63, 10**309, 1e308, -0.0, 5e-324, "", "0", "NaN", "x" * 300, "\ud83d",
    [], [[]], [0, 1, 2], {}, {"id": 0}, float("nan"), float("inf"),
]  # fmt: skip


def places(value, path=()):
    """Paths to all values of a JSON document, its own included."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, child in value.items() if isinstance(value, dict) else ():
        yield from places(child, (*path, key))


def mutated(content, seed):
    """The document with one to three values replaced, removed or doubled."""
    source = random.Random(seed)
    content = json.loads(json.dumps(content))
    for _ in range(source.randint(1, 3)):
        *path, last = source.choice([p for p in places(content) if p])
        parent = content
        for key in path:
            parent = parent[key]
        action = source.choice(["replace", "replace", "remove", "double"])
        if action == "replace":
            parent[last] = source.choice(WRONG)
        elif action == "remove":
            del parent[last]
        elif isinstance(parent, list):
            parent.append(parent[last])
        else:
            parent[f"{last}2"] = parent[last]
    return content


def read(kind, path, data):
    """Whether the file is valid; everything that uses one works then."""
    path.write_bytes(data)
    try:
        loaded = FILES[kind][0].load(path)
    except UserError as error:
        message = str(error)
    else:
        message = None
    if message is not None:
        assert str(path) in message
        assert "\n" not in message
        return False
    if kind == "table":
        loaded.text()
    elif loaded.metric_names():
        text_table(loaded)
        markdown_table(loaded)
    return True


@pytest.mark.parametrize("kind", FILES)
def test_changed_values_are_refused_or_harmless(kind, tmp_path):
    whole = json.loads(FILES[kind][1].model_dump_json())
    valid = [
        read(kind, tmp_path / "x.json", json.dumps(mutated(whole, seed)).encode())
        for seed in range(500)
    ]
    assert 0.01 < sum(valid) / len(valid) < 0.5  # both sides were tried


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), patch=st.binary(max_size=6), cut=st.integers(0, 6))
def test_changed_bytes_are_refused_or_harmless(kind, tmp_path, at, patch, cut):
    data = FILES[kind][1].model_dump_json().encode()
    at %= len(data)
    read(kind, tmp_path / "x.json", data[:at] + patch + data[at + cut :])


@pytest.mark.parametrize("kind", FILES)
def test_every_cut_off_file_is_refused(kind, tmp_path):
    data = FILES[kind][1].model_dump_json().encode()
    assert read(kind, tmp_path / "x.json", data)
    for length in range(0, len(data), 3):
        assert not read(kind, tmp_path / "x.json", data[:length])


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"null", b"[" * 100_000, b"1" * 10_000])
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_json_object_is_refused(kind, tmp_path, data):
    assert not read(kind, tmp_path / "x.json", data)


def test_what_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.json", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="could not be read: "):
            ParetoReport.load(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    REPORT.save(tmp_path / "x.json")
    before = (tmp_path / "x.json").read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        TABLE.save(tmp_path / "x.json")
    assert (tmp_path / "x.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
