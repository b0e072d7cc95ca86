"""Latency tables: what they hold, and where they are refused."""

import json

import pytest
import torch

from mmsn.deploy import LatencyTable, StitchMenu
from mmsn.errors import UserError
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
    with pytest.raises(UserError, match=r"t\.json is no latency table: schema_version"):
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
        with pytest.raises(UserError, match=r"is no latency table: stitches.0.latency.p50_ms"):
            LatencyTable.load(tmp_path / "t.json")
