"""``mmsn costs``: what it prints, the table that it measures, and what it refuses."""

import pytest
import torch

from mmsn.deploy import LatencyTable
from mmsn.errors import MissingFile, UserError
from tests.deploy.tiny import tiny_config


@pytest.fixture
def config(tmp_path):
    tiny_config().dump(tmp_path / "tiny.py")
    return str(tmp_path / "tiny.py")


def test_groups_all_and_budget(tool, config, capsys):
    main = tool("costs").main
    main([config])
    assert "32x32, batch 1: 14 stitches in" in capsys.readouterr().out
    main([config, "--all", "--image-size", "64", "48", "--batch-size", "2"])
    out = capsys.readouterr().out
    assert "64x48, batch 2: 14 of 14 stitches" in out
    assert "9 (lsl): 1[0:2] > 0[1:2] > 1[4:8]" in out
    main([config, "--budget", "80%"])
    assert "(largest that fits 80%)" in capsys.readouterr().out
    main([config, "--budget", "100G"])
    assert "fits 100G, which is above the most expensive stitch, " in capsys.readouterr().out


def test_times_are_measured_once_and_refused_elsewhere(tool, config, capsys, tmp_path):
    costs, file = tool("costs"), tmp_path / "t.json"
    words = [config, "--latency-table", str(file), "--stitch", "anchors", "4", "--repeats", "2"]
    words += ["--device", "cpu"]
    costs.main([*words, "--all"])
    table = LatencyTable.load(file)
    out = capsys.readouterr().out
    assert table.text() in out  # with percentiles and spread
    assert out.count("p50 (ms)") == 2
    assert [s.id for s in table.stitches] == [0, 1, 4]
    slowest = max(s.latency.p50_ms for s in table.stitches)
    costs.main([*words, "--budget", f"{slowest!r}ms"])
    out = capsys.readouterr().out
    assert "ms (largest that fits" in out
    assert "spread" not in out
    assert LatencyTable.load(file) == table
    table.model_copy(update=dict(torch_version="1.0")).save(file)
    with pytest.raises(UserError, match=rf"torch 1\.0 there, {torch.__version__[:3]}"):
        costs.main(words)
    costs.main([*words, "--force"])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--budget", "100"], "'100' has no unit"),
        (["--budget", "1e-9G"], "below the cheapest stitch: give"),
        (["--budget", "20ms"], "needs a latency table"),
        (["--latency-table", "TABLE", "--stitch", "big"], "'big' are unknown"),
    ],
)
def test_refusals_are_one_line(tool, config, words, fault, tmp_path):
    words = [str(tmp_path / "t.json") if word == "TABLE" else word for word in words]
    with pytest.raises(UserError, match=fault) as caught:
        tool("costs").main([config, *words])
    assert "\n" not in str(caught.value)


def test_a_config_that_is_none_is_refused(tool, tmp_path):
    with pytest.raises(MissingFile, match=r"no.py' does not exist: give a config file"):
        tool("costs").main([str(tmp_path / "no.py")])
    for content in (b"a = b\n", b"\xff"):
        (tmp_path / "broken.py").write_bytes(content)
        with pytest.raises(UserError, match=r"broken.py' cannot be read"):
            tool("costs").main([str(tmp_path / "broken.py")])
    (tmp_path / "empty.py").write_text("a = 1\n")
    with pytest.raises(UserError, match="has no model with a backbone"):
        tool("costs").main([str(tmp_path / "empty.py")])
