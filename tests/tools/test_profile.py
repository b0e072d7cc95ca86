"""tools/profile.py: its text, its answers kept on disk, its refusals."""

import subprocess
import sys

import pytest
import torch

from mmsn.deploy import LatencyTable
from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny_config().dump(tmp_path / "tiny.py")
    return str(tmp_path / "tiny.py")


def test_groups_all_and_budget(tool, config, capsys):
    main = tool("profile").main
    main([config])
    assert "32x32, batch 1: 14 stitches in" in capsys.readouterr().out
    main([config, "--all", "--image-size", "64", "48", "--batch-size", "2"])
    out = capsys.readouterr().out
    assert "64x48, batch 2: 14 of 14 stitches" in out
    assert "9 (lsl): 1[0:2] > 0[1:2] > 1[4:8]" in out
    main([config, "--budget", "80%"])
    assert "(largest that fits 80%)" in capsys.readouterr().out


def test_an_answer_is_kept_until_something_changes(tool, config, capsys, monkeypatch, tmp_path):
    profile = tool("profile")
    asked = []
    answer = profile.answer
    monkeypatch.setattr(profile, "answer", lambda *a: asked.append(1) or answer(*a))
    texts = []
    for words in ([], [], ["--batch-size", "2"]):
        profile.main([config, *words])
        texts.append(capsys.readouterr().out)
    assert (len(asked), texts[0] == texts[1], texts[0] == texts[2]) == (2, True, False)
    tiny_config(rank=4).dump(config)
    profile.main([config])
    tiny_config(rank=4).dump(tmp_path / "twin.py")
    capsys.readouterr()
    profile.main([str(tmp_path / "twin.py")])
    assert "twin, 32x32" in capsys.readouterr().out
    assert len(asked) == 4
    for content in (b"", b"\xff"):  # cut off, or of another program
        for file in (tmp_path / "cache").rglob("*.txt"):
            file.write_bytes(content)
        profile.main([str(tmp_path / "twin.py")])
        assert "twin, 32x32" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 4


def test_times_are_measured_once_and_refused_elsewhere(tool, config, capsys, tmp_path):
    profile, file = tool("profile"), tmp_path / "t.json"
    words = [config, "--latency", str(file), "--stitches", "anchors", "4", "--repeats", "2"]
    words += ["--device", "cpu"]
    profile.main([*words, "--all"])
    assert "p50 (ms)" in capsys.readouterr().out
    table = LatencyTable.load(file)
    assert [s.id for s in table.stitches] == [0, 1, 4]
    slowest = max(s.latency.p50_ms for s in table.stitches)
    profile.main([*words, "--budget", f"{slowest!r}ms"])
    assert "ms (largest that fits" in capsys.readouterr().out
    assert LatencyTable.load(file) == table
    table.model_copy(update=dict(torch_version="1.0")).save(file)
    with pytest.raises(SystemExit, match=rf"torch 1\.0 there, {torch.__version__[:3]}"):
        profile.main(words)
    profile.main([*words, "--force"])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--budget", "100"], "'100' has no unit"),
        (["--budget", "100G"], "above the dearest stitch: give"),
        (["--budget", "20ms"], "needs a latency table"),
        (["--latency", "TABLE", "--stitches", "big"], "'big' are unknown"),
    ],
)
def test_refusals_are_one_line(tool, config, words, fault, tmp_path):
    words = [str(tmp_path / "t.json") if word == "TABLE" else word for word in words]
    with pytest.raises(SystemExit, match=fault) as caught:
        tool("profile").main([config, *words])
    assert "\n" not in str(caught.value)


def test_a_config_that_is_none_is_refused(tool, tmp_path):
    with pytest.raises(SystemExit, match="cannot be read"):
        tool("profile").main([str(tmp_path / "no.py")])
    for content in (b"a = b\n", b"\xff"):
        (tmp_path / "broken.py").write_bytes(content)
        with pytest.raises(SystemExit, match=r"broken.py' cannot be read"):
            tool("profile").main([str(tmp_path / "broken.py")])
    (tmp_path / "empty.py").write_text("a = 1\n")
    with pytest.raises(SystemExit, match="has no model with a backbone"):
        tool("profile").main([str(tmp_path / "empty.py")])


def test_tools_still_find_pythons_own_profile():
    """The folder of a script comes first on the path, and PyTorch imports ``cProfile``."""
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import cProfile, profile; "
    script += "cProfile.run('1'); print(profile.Profile, profile.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "<class 'profile.Profile'>" in done.stdout
    assert str(ROOT) not in done.stdout
