"""Extraction, export and comparison as a user runs them, on the files of a tiny supernet."""

import pytest
import torch
from mmengine.config import Config

from mmsn.deploy import LatencyTable
from mmsn.errors import MissingFile, UserError
from tests.deploy.conftest import small_config, trained


@pytest.fixture
def files(tmp_path):
    """Config and checkpoint of a supernet, as a training leaves them."""
    config = small_config("setr-naive", (4, 4))
    model = trained(config)
    config.dump(tmp_path / "supernet.py")
    meta = {"dataset_meta": {"classes": ("a", "b"), "palette": [[0, 0, 0], [1, 1, 1]]}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "supernet.pth")
    return [str(tmp_path / "supernet.py"), str(tmp_path / "supernet.pth")]


def test_a_stitch_is_extracted_then_exported(tool, files, tmp_path, capsys):
    out = tmp_path / "small"
    tool("extract").main([*files, "--stitch", "2", "--out", str(out)])
    assert "model.safetensors: 0.0" in capsys.readouterr().out
    extraction = [str(out / "config.py"), str(out / "model.safetensors")]
    tool("export").main([*extraction, "--out", str(tmp_path / "small.pt2")])
    printed = capsys.readouterr().out
    assert "MB for images of 64x64; largest difference from PyTorch in float32 " in printed
    assert float(printed.split("float32 ")[1].split(",")[0]) <= 1e-4


def test_a_budget_names_the_stitch(tool, files, tmp_path, capsys):
    tool("extract").main([*files, "--budget", "100G", "60%", "--out", str(tmp_path / "out")])
    first, second, _ = capsys.readouterr().out.splitlines()
    ids = [int(line.split(":")[0].removeprefix("stitch ")) for line in (first, second)]
    assert "largest that fits 100G, which is above the most expensive stitch, " in first
    config = Config.fromfile(tmp_path / "out" / "config.py")
    assert config.model.backbone.stitches == sorted(ids)


def test_a_latency_table_of_another_device_names_the_stitch(tool, files, tmp_path, capsys):
    supernet = trained(Config.fromfile(files[0]))
    table = LatencyTable.measure(supernet, [0], (64, 64), repeats=1)
    setting = table.setting.model_copy(update=dict(device="a phone"))
    table.model_copy(update=dict(setting=setting)).save(tmp_path / "t.json")
    ms = table.stitches[0].latency.p50_ms
    words = ["--budget", f"{ms!r}ms", "--latency-table", str(tmp_path / "t.json")]
    tool("extract").main([*files, *words, "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("stitch 0: ")


def test_a_config_that_is_no_program_is_refused(tool, files, tmp_path):
    for text in ("a = (", "a = b"):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(UserError, match=r"bad.py' cannot be read \((Syntax|Name)Error"):
            tool("extract").main(
                [str(tmp_path / "bad.py"), files[1], "--stitch", "0", "--out", str(tmp_path / "o")]
            )


def test_an_anchor_is_extracted_for_mmseg_and_timm(tool, files, tmp_path):
    tool("extract").main([*files, "--stitch", "1", "--plain", "--out", str(tmp_path / "plain")])
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert names == {"config.py", "model.pth"}


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("extract", ["--stitch", "99"], "stitch 99 is unknown"),
        ("extract", ["--stitch", "0", "--plain"], "only inside a MultiLevelNeck"),
        ("extract", ["--stitch", "2", "--plain"], "are not one anchor alone"),
        ("extract", ["--budget", "30"], "budget '30' has no unit"),
        ("export", [], "the config has 14 stitches, of which one is wanted: name it"),
        ("export", ["--stitch", "99"], "stitch 99 is unknown"),
    ],
)
def test_bad_input_writes_nothing(tool, files, tmp_path, name, words, message):
    out = tmp_path / ("out" if name == "extract" else "out.pt2")
    with pytest.raises(UserError, match=message) as caught:
        tool(name).main([*files, *words, "--out", str(out)])
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_checkpoint_of_another_network_writes_nothing(tool, files, tmp_path):
    torch.save({"backbone.x": torch.ones(1)}, files[1])
    with pytest.raises(UserError, match="1 keys are unexpected"):
        tool("extract").main([*files, "--stitch", "0", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingFile, match="does not exist: give a local"):
        tool("extract").main([files[0], "none.pth", "--stitch", "0", "--out", "out"])
